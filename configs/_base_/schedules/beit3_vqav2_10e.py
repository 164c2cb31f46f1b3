"""BEiT-3's released fine-tuning on VQAv2 (microsoft/unilm beit3/get_started, base).

10 epochs, 1 of them warm-up; batch 128 is 8 GPUs x 16 questions. An epoch is 5,000 steps here, for
640,000 questions: train and val have 652,800 without the 1,000 images that validate, and those
without an answer in the list are left out. The data set's log line has the exact number. The
released --model_ema is in none of its commands; custom_hooks=[dict(type="mmbeit3.EMAHook")] would
be it.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=50000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",  # released: float16, with a scaled loss
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=3e-5, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=None,
    constructor="mmbeit3.LayerDecayConstructor",
    # As released: vectors, CLS and the positions of patches do not decay; the head learns 20 times
    # as fast as all else, the pooler among it.
    paramwise_cfg=dict(
        layer_decay_rate=1.0,
        flat_decay_mult=0.0,
        custom_keys={
            "vision.pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
            "head.": dict(lr_mult=20.0),
        },
    ),
)

param_scheduler = [
    # From 0, as released: its warmup_lr is read and never used. LinearLR cannot start at 0 itself.
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=5000),
    # To 1e-6, and in the head to 20 times that.
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=5000, end=50000, eta_min_ratio=1e-6 / 3e-5
    ),
]

auto_scale_lr = dict(enable=False, base_batch_size=128)
