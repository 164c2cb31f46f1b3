"""The dual encoder as a classifier: images against the names of all classes."""

model = dict(
    type="mmbeit3.BEiT3TextClassifier",
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        tokenizer=dict(file="beit3.spm"),
        max_length=64,
    ),
    encoder=dict(type="mmbeit3.BEiT3Multiway", arch="base", img_size=224, patch_size=16),
    templates=None,  # the names alone
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://github.com/addf400/files/releases/download/beit3/"
        "beit3_base_itc_patch16_224.pth",
    ),
)
