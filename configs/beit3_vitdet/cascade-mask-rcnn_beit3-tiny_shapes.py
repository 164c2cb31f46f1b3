"""The trial: a tiny BEiT-3 Cascade Mask R-CNN with Soft-NMS, from random weights, on made-up data.

Reproduces: nothing published; it shows in minutes that the whole path works. `make demo` runs it.
Run: python tools/misc/make_shapes.py --out data/shapes
     python tools/train.py configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py
"""

_base_ = [
    "../_base_/models/cascade-mask-rcnn_beit3_sfp.py",
    "../_base_/datasets/shapes_instance.py",
    "../_base_/default_runtime.py",
]

# ============ often changed ============
max_iters = 700
learning_rate = 4e-4
batch_size = 4
channels = 64

# ============ rarely changed ============
# Images are 128 px wide, objects 20 to 64: patches of 8 pixels, a pyramid of strides 4 to 32, and
# anchors of 16 to 128 pixels. Narrow, with few RoIs, half of them objects, and masks of no class:
# other than the recipe, to learn in minutes.
roi_extractor = dict(
    out_channels=channels, featmap_strides=[4, 8], finest_scale=28, roi_layer=dict(sampling_ratio=1)
)
box_heads = [
    dict(
        head,
        in_channels=channels,
        conv_out_channels=channels,
        fc_out_channels=256,
        num_classes=5,
    )
    for head in _base_.box_heads
]
box_training = [
    dict(stage, sampler=dict(stage["sampler"], num=32, pos_fraction=0.5))
    if stage["sampler"]["type"] == "RandomSampler"
    else stage
    for stage in _base_.box_training
]
model = dict(
    data_preprocessor=dict(pad_size_divisor=8),
    backbone=dict(
        arch="tiny", img_size=128, patch_size=8, window_size=8, drop_path_rate=0.0, init_cfg=None
    ),
    neck=dict(in_channels=192, out_channels=channels, scale_factors=[2, 1, 0.5], num_outs=4),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        num_convs=1,
        anchor_generator=dict(scales=[4], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=box_heads,
        mask_roi_extractor=roi_extractor,
        # mmdet's start values: with the recipe's, by which every mask starts at a half, the tower
        # learns too little from masks in so few steps (docs/benchmarks.md).
        mask_head=dict(
            type="FCNMaskHead",
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=5,
            class_agnostic=True,
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=400, max_per_img=200),
        rcnn=box_training,
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=400, max_per_img=200),
        rcnn=dict(
            score_thr=0.0,
            nms=dict(_delete_=True, type="soft_nms", method="linear", iou_threshold=0.6),
        ),
    ),
)

train_dataloader = dict(batch_size=batch_size)
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.9),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1)
)
randomness = dict(seed=0)
