"""UPerNet on BEiT-3 with the simple feature pyramid, for semantic segmentation.

UPerNet (arXiv 1807.10221) is the classic head of the BEiT family; values without a note are those
of mmseg's configs/beit, but for the pyramid, which there is Feature2Pyramid over four layers.
"""

num_classes = 150
norm_cfg = dict(type="GN", num_groups=32)  # SyncBN there; this works with one image per GPU

model = dict(
    type="mmbeit3.EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        # Inception statistics, those of the _itc_ weights: docs/checkpoints.md
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type="mmbeit3.BEiT3",
        arch="base",
        img_size=224,
        patch_size=16,
        window_size=0,
        drop_path_rate=0.1,
        # Of the released weights those that their authors advise for vision tasks.
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_base_itc_patch16_224.pth",
        ),
    ),
    neck=dict(type="mmbeit3.SimpleFeaturePyramid", in_channels=768, out_channels=256, num_outs=4),
    decode_head=dict(
        type="UPerHead",
        in_channels=[256, 256, 256, 256],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=256,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode="slide", crop_size=(512, 512), stride=(341, 341)),
)
