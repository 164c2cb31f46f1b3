"""ADE20K, crops of 512 x 512: `python tools/dataset_converters/ade20k.py --help` prepares it.

The jitter is that of Mask2Former's ADE20K configs (arXiv 2112.01527; mmseg's configs/mask2former).
reduce_zero_label has one place, the data set, where it defaults to True.
"""

data_root = "data/ade/ADEChallengeData2016"
crop_size = (512, 512)

train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomChoiceResize",
        scales=[int(crop_size[0] * x * 0.1) for x in range(5, 21)],
        resize_type="ResizeShortestEdge",
        max_size=4 * crop_size[0],
    ),
    dict(type="mmbeit3.SegRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.PhotoMetricDistortion"),
    dict(type="mmbeit3.ChannelsFirst"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    # The short side, as long as the long one stays below four times it.
    dict(type="Resize", scale=(4 * crop_size[0], crop_size[0]), keep_ratio=True),
    dict(type="LoadAnnotations"),  # after Resize: labels are compared at their own size
    dict(type="PackSegInputs"),
]

# tools/test.py --tta multi-scale and --tta flip
tta_ratios = [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]  # mmseg's ADE20K configs
flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
tta_pipeline, tta_pipeline_flip = (
    [
        dict(type="LoadImageFromFile", _scope_="mmbeit3"),
        dict(
            type="TestTimeAug",
            transforms=[
                [
                    dict(
                        type="Resize",
                        scale=(int(4 * crop_size[0] * ratio), int(crop_size[0] * ratio)),
                        keep_ratio=True,
                    )
                    for ratio in ratios
                ],
                flips,
                [dict(type="LoadAnnotations")],
                [dict(type="PackSegInputs")],
            ],
        ),
    ]
    for ratios in (tta_ratios, [1.0])
)

# 8 GPUs x 2 images = the batch of 16 that every recipe here is written for.
train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.ADE20KDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmbeit3.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
