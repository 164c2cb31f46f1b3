"""BEiT-3 with the simple feature pyramid for semantic segmentation: everything but the head.

Global attention in every layer: windows cost segmentation more than detection
(czczup/ViT-Adapter#161).
"""

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
    train_cfg=dict(),
    test_cfg=dict(
        mode="whole",
        window_batch_size=None,  # windows that run at once in mode="slide": 1 on the CPU, else 4
        return_logits=False,  # True: seg_logits in every result, too, as in mmseg
    ),
)
