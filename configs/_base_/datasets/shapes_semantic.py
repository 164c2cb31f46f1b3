"""Class maps of the generated trial data: `python tools/misc/make_shapes.py --out data/shapes`."""

data_root = "data/shapes/"
crop_size = (128, 128)
metainfo = dict(
    classes=("background", "disk", "square", "triangle", "star", "ring"),
    palette=[
        (0, 0, 0),
        (230, 60, 60),
        (60, 170, 80),
        (60, 110, 230),
        (240, 190, 40),
        (170, 80, 200),
    ],
)

train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=crop_size),
    dict(type="RandomFlip", prob=0.5, direction=["horizontal", "vertical", "diagonal"]),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(128, 128), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

# tools/test.py --tta multi-scale and --tta flip
tta_ratios = [0.75, 1.0, 1.25]
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
                        scale=(int(128 * ratio), int(128 * ratio)),
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

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.SegFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path="train", seg_map_path="semantic/train"),
        metainfo=metainfo,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=4,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.SegFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path="val", seg_map_path="semantic/val"),
        metainfo=metainfo,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmbeit3.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
