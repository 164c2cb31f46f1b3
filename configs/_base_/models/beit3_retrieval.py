"""The dual encoder of images and texts: BEiT-3 base at 384 pixels, from official _itc_ weights."""

model = dict(
    type="mmbeit3.BEiT3Retrieval",
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
        img_size=384,
        patch_size=16,
        drop_path_rate=0.2,  # as released for base and large
        with_cp=True,  # as released: --checkpoint_activations
    ),
    # As released: another caption of the same image is a wrong answer ("ignore" and "positive" are
    # the others), and nothing limits the scale (CLIP: 100).
    same_image="negative",
    max_logit_scale=None,
    # Towers, heads and scale; only towers: encoder=dict(init_cfg=...).
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://github.com/addf400/files/releases/download/beit3/"
        "beit3_base_itc_patch16_224.pth",
    ),
)
