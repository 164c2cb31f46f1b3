"""The detector of cascade-mask-rcnn_beit3_sfp.py for the boxes of Objects365's 365 classes."""

_base_ = "./cascade-mask-rcnn_beit3_sfp.py"

box_heads = [
    dict(
        type="Shared4Conv1FCBBoxHead",
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        norm_cfg=dict(type="mmbeit3.LN2d", eps=1e-6),
        roi_feat_size=7,
        num_classes=365,
        reg_class_agnostic=True,
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1 / weight_xy, 1 / weight_xy, 1 / weight_wh, 1 / weight_wh],
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    )
    for weight_xy, weight_wh in ((10, 5), (20, 10), (30, 15))
]

model = dict(
    roi_head=dict(bbox_head=box_heads, mask_roi_extractor=None, mask_head=None)  # no masks in it
)
