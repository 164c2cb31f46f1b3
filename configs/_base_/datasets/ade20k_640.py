"""ADE20K, crops of 640 x 640; the jitter is that of Mask2Former's configs at this size."""

_base_ = "./ade20k_512.py"

crop_size = (640, 640)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomChoiceResize",
        scales=[int(crop_size[0] * x * 0.1) for x in range(5, 21)],
        resize_type="ResizeShortestEdge",
        max_size=4 * crop_size[0],
    ),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(4 * crop_size[0], crop_size[0]), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
