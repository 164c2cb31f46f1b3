"""BEiT-3 large judges statements of NLVR2, at 224 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has 88.5 on dev and 89.4 on test-P (89.2
and 90.0 from the indomain weights). Not trained by us.
Run: CONFIG=configs/beit3_nlvr2/beit3-large_224_nlvr2.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_large_patch16_224_nlvr2.pth  # the released weights
"""

_base_ = "./beit3-base_224_nlvr2.py"

model = dict(
    encoder=dict(
        arch="large",
        with_cp=True,  # as released: --checkpoint_activations
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_patch16_224.pth"
        ),
    )
)
optim_wrapper = dict(optimizer=dict(lr=3e-4), paramwise_cfg=dict(layer_decay_rate=0.85))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1685),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=1685, end=6740, eta_min_ratio=1e-6 / 3e-4),
]
