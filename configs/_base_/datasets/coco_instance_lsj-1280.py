"""COCO instance segmentation with large-scale jitter at 1280 x 1280.

1280 is Table 16 of arXiv 2208.10442. The range of the jitter is not in the paper: 0.1 to 2.0 is
ViTDet's and EVA's.
"""

_base_ = "./coco_instance_lsj-1024.py"

image_size = (1280, 1280)

train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3", backend_args=None),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=False),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.ContiguousImage"),
    dict(type="RandomResize", scale=image_size, ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type="mmbeit3.PolygonRandomCrop",
        crop_type="absolute",
        crop_size=image_size,
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type="mmbeit3.ChannelsFirst"),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3", backend_args=None),
    dict(type="Resize", scale=image_size, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

# tools/test.py --tta multi-scale and --tta flip
tta_ratios = [0.6, 0.8, 1.0, 1.2, 1.4, 1.6]  # as in coco_instance_lsj-1024.py
flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
tta_pipeline, tta_pipeline_flip = (
    [
        dict(type="LoadImageFromFile", _scope_="mmbeit3", backend_args=None),
        dict(
            type="TestTimeAug",
            transforms=[
                [
                    dict(
                        type="Resize",
                        scale=(round(image_size[0] * ratio), round(image_size[0] * ratio)),
                        keep_ratio=True,
                    )
                    for ratio in ratios
                ],
                flips,
                [dict(type="LoadAnnotations", with_bbox=True, with_mask=True)],
                [dict(type="PackDetInputs")],
            ],
        ),
    ]
    for ratios in (tta_ratios, [1.0])
)

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
