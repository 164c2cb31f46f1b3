"""BEiT-3 large with a linear layer on ImageNet, the released recipe.

Reproduces: microsoft/unilm beit3, "Fine-tuning on ImageNet-1k" at large: 87.6 top-1, 98.3 top-5
there. Tests run with the official beit3_large_patch16_224_in1k.pth, too.
Run: bash tools/dist_train.sh configs/beit3_imagenet/beit3-large-linear_224_imagenet.py 8
"""

_base_ = "./beit3-base-linear_224_imagenet.py"

model = dict(
    backbone=dict(
        arch="large",
        drop_path_rate=0.25,
        with_cp=True,
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_patch16_224.pth"
        ),
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-4), paramwise_cfg=dict(layer_decay_rate=0.8))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=6255),
    dict(
        type="CosineAnnealingLR",
        by_epoch=False,
        begin=6255,
        end=62550,
        eta_min_ratio=1e-6 / 2e-4,
    ),
]
