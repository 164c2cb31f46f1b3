"""BEiT-3 large answers questions of VQAv2, at 480 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has 81.85 on test-dev (82.53 from the
indomain weights). Not trained by us.
Run: CONFIG=configs/beit3_vqa/beit3-large_480_vqav2.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_large_patch16_480_vqa.pth  # the released weights
"""

_base_ = "./beit3-base_480_vqav2.py"

model = dict(
    encoder=dict(
        arch="large",
        drop_path_rate=0.15,
        with_cp=True,  # as released: --checkpoint_activations
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_patch16_224.pth"
        ),
    )
)
optim_wrapper = dict(optimizer=dict(lr=2e-5))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=5000),
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=5000, end=50000, eta_min_ratio=1e-6 / 2e-5
    ),
]
