"""Judgments of statements about two images: BEiT-3 base at 224 pixels, from pretrained towers."""

model = dict(
    type="mmbeit3.BEiT3NLVR2",
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        mean=[127.5, 127.5, 127.5],  # as released for every task with texts
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        tokenizer=dict(file="beit3.spm"),  # the error for an absent one says where it is
        max_length=64,  # as released
    ),
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        arch="base",
        img_size=224,
        patch_size=16,
        drop_path_rate=0.2,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_base_patch16_224.pth",
        ),
    ),
)
