"""BEiT-3 base Cascade Mask R-CNN with Soft-NMS on your own COCO-format data.

Reproduces: nothing published; a starting point with ViTDet's values at a short schedule.
Copy this file to any folder, edit the lines under "edit these", and run:
    cp configs/beit3_vitdet/cascade-mask-rcnn_beit3-base_custom.py my_config.py
    python tools/train.py my_config.py
Classes are read from the training annotation file; nothing has to be typed or counted.
"""

# In the installed package: a copy of this file works in any folder.
_base_ = __import__("mmbeit3").packaged_configs(
    "_base_/models/cascade-mask-rcnn_beit3_sfp.py", "_base_/default_runtime.py"
)

# ============ edit these ============
data_root = "data/custom/"
train_ann, train_images = "annotations/train.json", "train/"
val_ann, val_images = "annotations/val.json", "val/"
image_size = 1024  # images are scaled to fit a square of this side; any multiple of 32
batch_size = 2
max_iters = 10000
learning_rate = 5e-5
pretrained = (  # or a file of yours, see docs/checkpoints.md
    "https://github.com/addf400/files/releases/download/beit3/beit3_base_itc_patch16_224.pth"
)

# ============ sometimes changed ============
train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    # Bitmaps read polygons and RLE alike; with polygons only, poly2mask=False is lighter.
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True, poly2mask=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.ContiguousImage"),  # a flip is a mirrored view, slow to resize
    dict(
        type="RandomResize", scale=(image_size, image_size), ratio_range=(0.5, 2.0), keep_ratio=True
    ),
    dict(
        type="mmbeit3.PolygonRandomCrop",
        crop_type="absolute",
        crop_size=(image_size, image_size),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1e-2, 1e-2)),
    dict(type="mmbeit3.ChannelsFirst"),  # quick to pack
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]
# tools/test.py --tta flip
flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
views = [[test_pipeline[1]], flips, [test_pipeline[2]], [dict(type="PackDetInputs")]]
tta_pipeline_flip = [test_pipeline[0], dict(type="TestTimeAug", transforms=views)]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.CocoDataset",
        data_root=data_root,
        ann_file=train_ann,
        data_prefix=dict(img=train_images),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
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
        ann_file=val_ann,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="mmbeit3.CocoMetric",
    ann_file=data_root.rstrip("/") + "/" + val_ann,
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator

# ============ rarely changed ============
model = dict(
    data_preprocessor=dict(
        batch_augments=[
            dict(type="mmbeit3.BatchFixedSizePad", size=(image_size, image_size), pad_mask=True)
        ]
    ),
    backbone=dict(init_cfg=dict(checkpoint=pretrained)),
    # EVA-01/det's Soft-NMS: linear, IoU 0.6, no score threshold.
    test_cfg=dict(
        rcnn=dict(
            score_thr=0.0,
            nms=dict(
                _delete_=True, type="soft_nms", method="linear", iou_threshold=0.6, min_score=1e-3
            ),
        )
    ),
)
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters // 10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.7),  # ViTDet-B
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=max_iters,
        milestones=[max_iters * 8 // 9, max_iters * 26 // 27],
        gamma=0.1,
    ),
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
