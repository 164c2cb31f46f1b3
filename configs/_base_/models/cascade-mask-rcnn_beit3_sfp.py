"""Cascade Mask R-CNN on BEiT-3 with the simple feature pyramid: the detector of the ViTDet recipe.

Values without a note are those of detectron2's configs/common/models/mask_rcnn_vitdet.py and
projects/ViTDet/configs/COCO/cascade_mask_rcnn_vitdet_*.py.
"""

norm_cfg = dict(type="mmbeit3.LN2d", eps=1e-6)

# One stage of the cascade; only the scale of the box targets differs between the stages.
box_heads = [
    dict(
        type="mmbeit3.Shared4Conv1FCBBoxHead",
        in_channels=256,
        conv_out_channels=256,
        fc_out_channels=1024,
        norm_cfg=norm_cfg,
        roi_feat_size=7,
        num_classes=80,
        reg_class_agnostic=True,
        bbox_coder=dict(
            type="mmbeit3.DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1 / weight_xy, 1 / weight_xy, 1 / weight_wh, 1 / weight_wh],
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    )
    for weight_xy, weight_wh in ((10, 5), (20, 10), (30, 15))
]

# The first stage samples proposals; the later ones label again every box they are handed.
box_training = [
    dict(
        assigner=dict(
            type="MaxIoUAssigner",
            pos_iou_thr=iou,
            neg_iou_thr=iou,
            min_pos_iou=iou,
            match_low_quality=False,
            ignore_iof_thr=-1,
        ),
        sampler=dict(type="RandomSampler", num=512, pos_fraction=0.25, add_gt_as_proposals=True)
        if iou == 0.5
        else dict(type="PseudoSampler"),
        mask_size=28,
        pos_weight=-1,
        debug=False,
    )
    for iou in (0.5, 0.6, 0.7)
]

model = dict(
    type="mmbeit3.CascadeRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        # Inception statistics: what microsoft/unilm beit3/datasets.py uses for every
        # vision-language task (retrieval among them, so the _itc_ weights). Its ImageNet-1K
        # fine-tuning uses ImageNet statistics: change both lines for _in1k weights.
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="mmbeit3.BEiT3",
        arch="base",
        img_size=224,
        patch_size=16,
        window_size=16,
        drop_path_rate=0.1,
        # Of the released weights those that their authors advise for vision tasks.
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_base_itc_patch16_224.pth",
        ),
    ),
    neck=dict(type="mmbeit3.SimpleFeaturePyramid", in_channels=768, out_channels=256, num_outs=5),
    rpn_head=dict(
        type="mmbeit3.RPNHead",
        in_channels=256,
        feat_channels=256,
        num_convs=2,
        anchor_generator=dict(
            type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64]
        ),
        bbox_coder=dict(
            type="mmbeit3.DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    roi_head=dict(
        type="mmbeit3.ViTDetCascadeRoIHead",
        num_stages=3,
        stage_loss_weights=[1, 1, 1],
        bbox_roi_extractor=dict(
            type="mmbeit3.PreciseRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=box_heads,
        mask_roi_extractor=dict(
            type="mmbeit3.PreciseRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type="mmbeit3.FCNMaskHead",
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            norm_cfg=norm_cfg,
            num_classes=80,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="mmbeit3.MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                # The best anchor of an object trains however poor it is, as in detectron2; mmdet's
                # 0.3 leaves objects of less than about 17 pixels without any.
                min_pos_iou=1e-9,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=box_training,
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            score_thr=0.05,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
    ),
)

tta_model = dict(type="mmbeit3.DetTTAModel")  # tools/test.py --tta
