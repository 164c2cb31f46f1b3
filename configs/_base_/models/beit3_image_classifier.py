"""The released classifier: mean of the patches' states, LN, a linear layer; no LN of the tower."""

model = dict(
    type="mmbeit3.BEiT3ImageClassifier",
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
    ),
    backbone=dict(
        type="mmbeit3.BEiT3",
        arch="base",
        img_size=224,
        patch_size=16,
        window_size=0,
        with_cls_token=True,
        final_norm=False,
        drop_path_rate=0.15,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_base_patch16_224.pth",
        ),
    ),
    num_classes=1000,
    mixup=0.8,
    cutmix=1.0,
    label_smoothing=0.1,
)
