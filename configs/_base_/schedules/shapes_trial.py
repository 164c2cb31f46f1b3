"""AdamW for the trials of images and texts, whose configs say for how many iterations."""

val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-4, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
