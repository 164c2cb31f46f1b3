"""COCO-Stuff 164k (171 classes), crops of 896 x 896: ViT-Adapter's intermediate training.

`python tools/dataset_converters/coco_stuff164k.py --help` prepares it. Every label map is checked
before the first training, and the result is kept.
"""

data_root = "data/coco_stuff164k"
crop_size = (896, 896)

train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(3584, 896), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="mmbeit3.SegRandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.PhotoMetricDistortion"),
    dict(type="mmbeit3.ChannelsFirst"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(3584, 896), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

# tools/test.py --tta multi-scale and --tta flip
tta_ratios = [0.9, 0.95, 1.0, 1.05, 1.1]  # DINOv3 at this size (arXiv 2508.10104)
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

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.COCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/train2017", seg_map_path="annotations/train2017"),
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
        type="mmbeit3.COCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/val2017", seg_map_path="annotations/val2017"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmbeit3.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator
