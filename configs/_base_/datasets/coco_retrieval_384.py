"""COCO by Karpathy's splits: train with restval, 5,000 images to validate and to test.

data/coco/train2014, val2014 and dataset_coco.json (from Karpathy's caption_datasets.zip).
"""

data_root = "data/coco/"
img_size = 384

# As released: Pillow's bicubic interpolation, with antialiasing; a mirrored image keeps its text.
train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="RandomResizedCrop", scale=img_size, crop_ratio_range=(0.5, 1.0)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackImageText"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(
        type="Resize",
        scale=(img_size, img_size),
        keep_ratio=False,
        interpolation="bicubic",
        backend="pillow",
    ),
    dict(type="PackImageText"),
]

train_dataloader = dict(
    batch_size=96,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.KarpathyDataset",
        data_root=data_root,
        ann_file="dataset_coco.json",
        split="train",
        data_prefix=dict(img=""),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=96,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.KarpathyDataset",
        data_root=data_root,
        ann_file="dataset_coco.json",
        split="val",
        data_prefix=dict(img=""),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=96,
    num_workers=4,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.KarpathyDataset",
        data_root=data_root,
        ann_file="dataset_coco.json",
        split="test",
        data_prefix=dict(img=""),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

# Also the mean over five folds of 1,000 images, which other papers call COCO 1K.
val_evaluator = dict(type="mmbeit3.RetrievalMetric", fold_size=1000)
test_evaluator = val_evaluator
