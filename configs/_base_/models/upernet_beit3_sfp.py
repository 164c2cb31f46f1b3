"""UPerNet on BEiT-3 with the simple feature pyramid, for semantic segmentation.

UPerNet (arXiv 1807.10221) is the classic head of the BEiT family; values without a note are those
of mmseg's configs/beit, but for the pyramid, which there is Feature2Pyramid over four layers.
"""

_base_ = "./beit3_sfp_seg.py"

num_classes = 150
norm_cfg = dict(type="GN", num_groups=32)  # SyncBN there; this works with one image per GPU

model = dict(
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
)
