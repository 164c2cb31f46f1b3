"""ImageNet-1K in its usual layout: data/imagenet/{train,val}/n01440764/*.JPEG, at 224 pixels.

Transforms of microsoft/unilm beit3 for ImageNet: timm's for training (RandAugment m9, random
erasing 0.25); in tests the shorter side to 224 and a crop of the middle (crop_pct 1.0).
"""

data_root = "data/imagenet/"
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TimmAugment",
        scale=224,
        auto_augment="rand-m9-mstd0.5-inc1",
        erase_prob=0.25,
        mean=mean,
        std=std,
    ),
    dict(type="PackImageText"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeCenterCrop", scale=224),
    dict(type="PackImageText"),
]

train_dataloader = dict(
    batch_size=128,  # on 8 GPUs
    num_workers=10,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.ImageFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path="train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=10,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.ImageFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path="val"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.AccuracyMetric")
test_evaluator = val_evaluator
