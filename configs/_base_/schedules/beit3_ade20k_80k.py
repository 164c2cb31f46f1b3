"""BEiT-3's ADE20K fine-tuning: Table 15 of arXiv 2208.10442, for the model of 1B parameters.

The table gives: AdamW, peak learning rate 1e-5, 80k steps, 1500 warm-up steps, batch 16, weight
decay 0.05, layer decay 0.95, drop path 0.5, 896 x 896. It is silent on the shape of the schedule
and refers to ViT-Adapter, whose Mask2Former configs let the learning rate fall linearly to zero.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=80000, val_interval=8000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",  # silent
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=1e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=None,  # silent; ViT-Adapter: none
    constructor="mmbeit3.LayerDecayConstructor",
    # Silent on weight-decay exceptions; ViT-Adapter and BEiT: biases, norms and other vectors.
    paramwise_cfg=dict(layer_decay_rate=0.95, flat_decay_mult=0.0),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=80000),
]

auto_scale_lr = dict(enable=False, base_batch_size=16)
