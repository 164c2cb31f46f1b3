"""NLVR2 at 224 pixels: train, dev and the public test (test1, test-P in the paper).

data/nlvr2/images/train/N, dev, test1, and data/nlvr2/nlvr, a clone of github.com/lil-lab/nlvr.
"""

data_root = "data/nlvr2/"
img_size = 224

# As released: Pillow's bicubic interpolation, with antialiasing; each of the two images is cut and
# mirrored by itself, and the statement stays, "left" and "right" too.
train_pipeline = [
    dict(
        type="ForEachImage",
        transforms=[
            dict(type="LoadImageFromFile", _scope_="mmbeit3"),
            dict(type="RandomResizedCrop", scale=img_size, crop_ratio_range=(0.5, 1.0)),
            dict(type="RandomFlip", prob=0.5),
        ],
    ),
    dict(type="PackImageText"),
]
test_pipeline = [
    dict(
        type="ForEachImage",
        transforms=[
            dict(type="LoadImageFromFile", _scope_="mmbeit3"),
            dict(
                type="Resize",
                scale=(img_size, img_size),
                keep_ratio=False,
                interpolation="bicubic",
                backend="pillow",
            ),
        ],
    ),
    dict(type="PackImageText"),
]

train_dataloader = dict(
    batch_size=32,  # on 8 GPUs
    num_workers=10,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.NLVR2Dataset",
        data_root=data_root,
        ann_file="nlvr/nlvr2/data/train.json",
        data_prefix=dict(img="images/train/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=48,
    num_workers=10,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.NLVR2Dataset",
        data_root=data_root,
        ann_file="nlvr/nlvr2/data/dev.json",
        data_prefix=dict(img="dev/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=48,
    num_workers=10,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.NLVR2Dataset",
        data_root=data_root,
        ann_file="nlvr/nlvr2/data/test1.json",
        data_prefix=dict(img="test1/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type="mmbeit3.NLVR2Metric")
test_evaluator = val_evaluator
