"""ADE20K, crops of 640 x 640; the jitter is that of Mask2Former's configs at this size."""

_base_ = "./ade20k_512.py"

crop_size = (640, 640)

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
    dict(type="Resize", scale=(4 * crop_size[0], crop_size[0]), keep_ratio=True),
    dict(type="LoadAnnotations"),
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

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
