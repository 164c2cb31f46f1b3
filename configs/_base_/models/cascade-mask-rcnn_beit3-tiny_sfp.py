"""The detector of the ViTDet recipe, tiny, from random weights: it learns on two CPU cores.

Other than the recipe: 4 layers, patches of 8 pixels and a pyramid of strides 4 to 32, for images of
128 to 384 pixels; narrow pyramid and heads, few RoIs, half of them objects, masks of no class.
"""

_base_ = "./cascade-mask-rcnn_beit3_sfp.py"

channels = 64

roi_extractor = dict(
    out_channels=channels, featmap_strides=[4, 8], finest_scale=28, roi_layer=dict(sampling_ratio=1)
)
box_heads = [
    dict(head, in_channels=channels, conv_out_channels=channels, fc_out_channels=256)
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
        arch="tiny", img_size=224, patch_size=8, window_size=8, drop_path_rate=0.0, init_cfg=None
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
