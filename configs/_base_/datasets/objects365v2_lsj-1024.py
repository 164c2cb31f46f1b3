"""Objects365 v2 (365 classes, boxes only) with large-scale jitter at 1024 x 1024.

`python tools/dataset_converters/objects365.py --help` prepares it. 1024 is Table 16 of
arXiv 2208.10442; the range of the jitter is not in the paper: 0.1 to 2.0 is ViTDet's and EVA's.
"""

data_root = "data/objects365v2/"
image_size = (1024, 1024)
backend_args = None

train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3", backend_args=backend_args),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.ContiguousImage"),  # a flip is a mirrored view, slow to resize
    dict(type="RandomResize", scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type="RandomCrop",
        crop_type="absolute",
        crop_size=image_size,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type="mmbeit3.ChannelsFirst"),  # quick to pack
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3", backend_args=backend_args),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

# 8 GPUs x 8 images = the batch of 64 that every recipe here is written for.
train_dataloader = dict(
    batch_size=8,
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.CocoDataset",
        data_root=data_root,
        ann_file="annotations/train.json",
        data_prefix=dict(img="train/"),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.CocoDataset",
        data_root=data_root,
        ann_file="annotations/val.json",
        data_prefix=dict(img="val/"),
        test_mode=True,
        pipeline=test_pipeline,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    type="mmbeit3.CocoMetric",
    ann_file=data_root.rstrip("/") + "/annotations/val.json",
    metric=["bbox"],
    backend_args=backend_args,
)
test_evaluator = val_evaluator
