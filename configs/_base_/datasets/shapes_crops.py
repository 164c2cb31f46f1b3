"""Crops of the generated shapes: `mmbeit3 make-shapes --crops --out data/shapes_crops`."""

data_root = "data/shapes_crops/"

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="TimmAugment", scale=64, crop_area=(0.6, 1.0)),
    dict(type="PackImageText"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeCenterCrop", scale=64),
    dict(type="PackImageText"),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.ImageFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path="train"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=0,
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
