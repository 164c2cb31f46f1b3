"""The writer of captions: BEiT-3 base at 480 pixels, from official weights of pretraining."""

model = dict(
    type="mmbeit3.BEiT3Captioning",
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        mean=[127.5, 127.5, 127.5],  # as released for every task with texts
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        tokenizer=dict(file="beit3.spm"),  # the error for an absent one says where it is
        max_length=32,  # as released: --num_max_bpe_tokens 32
    ),
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        arch="base",
        img_size=480,
        patch_size=16,
        drop_path_rate=0.1,  # as released for base and large
        with_cp=True,  # as released: --checkpoint_activations
    ),
    # As released: --captioning_mask_prob 0.7, --drop_worst_after 12000, and defaults.
    mask_rate=0.7,
    label_smoothing=0.1,
    drop_worst_ratio=0.2,
    drop_worst_after=12000,
    # As the released evaluation, which has 64 tokens; released=False is the search without its
    # oddities, which mmbeit3.models.multimodal.generation.Decoding lists.
    generation=dict(beams=3, length_penalty=0.6, max_length=64, released=True),
    # Towers and head, those of the released pretraining; only towers: encoder=dict(init_cfg=...).
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://github.com/addf400/files/releases/download/beit3/"
        "beit3_base_patch16_224.pth",
    ),
)
