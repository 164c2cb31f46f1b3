"""What the trials of images and texts share: tiny towers, and the tokenizer of make-shapes."""

model = dict(
    encoder=dict(
        type="mmbeit3.BEiT3Multiway",
        # Two thirds of the tiny size's width: more steps in the time.
        arch=dict(embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512),
        img_size=64,
        patch_size=8,
        vocab_size=258,  # of the tokenizer that make-shapes writes
        max_tokens=64,
    ),
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        tokenizer=dict(file="data/plain/captions.spm"),
    ),
)
