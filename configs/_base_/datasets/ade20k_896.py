"""ADE20K, crops of 896 x 896 (Table 15 of arXiv 2208.10442).

The paper is silent on the jitter: scale (3584, 896) times 0.5 to 2 is ViT-Adapter's, in its
mask2former_beitv2_adapter_large_896_80k_ade20k_ss.
"""

_base_ = "./ade20k_512.py"

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

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
