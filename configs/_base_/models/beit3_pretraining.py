"""Masked data modeling of BEiT-3 base at 224 pixels, with the codes of BEiT v2's tokenizer.

Which of the three published tokenizers BEiT-3 took is not known: that of CLIP with three decoder
layers is the one that BEiT v2 recommends.
"""

model = dict(
    type="mmbeit3.BEiT3Pretraining",
    data_preprocessor=dict(
        type="mmbeit3.PretrainingPreprocessor",
        mean=[127.5, 127.5, 127.5],  # as released for every task with texts
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        tokenizer=dict(file="beit3.spm"),
        max_length=64,
    ),
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        arch="base",
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        with_cp=True,
    ),
    image_tokenizer=dict(
        type="mmbeit3.VQKD",
        arch="base",
        img_size=224,
        patch_size=16,
        decoder_layers=3,
        init_cfg=dict(
            type="Pretrained",
            checkpoint="https://github.com/addf400/files/releases/download/BEiT-v2/"
            "vqkd_encoder_base_decoder_3x768x12_clip-d5036aa7.pth",
        ),
    ),
    num_codes=8192,
    # Shares of the paper (section 2.2).
    image_mask_rate=0.4,
    text_mask_rate=0.15,
    pair_text_mask_rate=0.5,
)
