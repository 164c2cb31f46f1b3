"""VQAv2 on COCO's images of 2014 and 2015, at 480 pixels.

data/coco/train2014, val2014, test2015, and data/coco/vqa with the official questions and
annotations. Trained on train and on val but for 1,000 images, which validate, as in the released
code, where chance draws them; here a seed does. Tests are those of the official server.
"""

data_root = "data/coco/"
img_size = 480

# As released: Pillow's bicubic interpolation, with antialiasing; a mirrored image keeps its
# question, "left" and "right" too.
train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="RandomResizedCrop", scale=img_size, crop_ratio_range=(0.5, 1.0)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandAugment", num_ops=2, level=7),
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
    batch_size=16,  # on 8 GPUs
    num_workers=10,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.VQAv2Dataset",
        data_root=data_root,
        # In this order they give the answers of the released models, each with its label.
        questions=[
            "vqa/v2_OpenEnded_mscoco_train2014_questions.json",
            "vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        ],
        annotations=[
            "vqa/v2_mscoco_train2014_annotations.json",
            "vqa/v2_mscoco_val2014_annotations.json",
        ],
        val_images=1000,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=24,
    num_workers=10,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.VQAv2Dataset",
        data_root=data_root,
        questions="vqa/v2_OpenEnded_mscoco_val2014_questions.json",
        annotations="vqa/v2_mscoco_val2014_annotations.json",
        val_images=1000,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=24,
    num_workers=10,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.VQAv2Dataset",
        data_root=data_root,
        questions="vqa/v2_OpenEnded_mscoco_test2015_questions.json",  # or test-dev2015
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(type="mmbeit3.VQAMetric")
test_evaluator = val_evaluator
