"""ADE20K, crops of 896 x 896 (Table 15 of arXiv 2208.10442).

The paper is silent on the jitter: scale (3584, 896) times 0.5 to 2 is ViT-Adapter's, in its
mask2former_beitv2_adapter_large_896_80k_ade20k_ss.
"""

_base_ = "./ade20k_512.py"

crop_size = (896, 896)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(3584, 896), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(3584, 896), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
