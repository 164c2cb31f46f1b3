"""BEiT-3's released fine-tuning on VQAv2 (microsoft/unilm beit3/get_started, base).

10 epochs, 1 of them warm-up; batch 128 is 8 GPUs x 16 questions. An epoch is 5,000 steps here, for
640,000 questions: train and val have 652,800 without the 1,000 images that validate, and those
without an answer in the list are left out. The data set's log line has the exact number. The
released --model_ema is in none of its commands; custom_hooks=[dict(type="mmbeit3.EMAHook")] would
be it.
"""

_base_ = "./beit3_nlvr2_20e.py"

train_cfg = dict(max_iters=50000, val_interval=5000)
optim_wrapper = dict(
    optimizer=dict(lr=3e-5, betas=(0.9, 0.98), weight_decay=0.01),
    # As released: the head, without the pooler, learns 20 times as fast as all else.
    paramwise_cfg=dict(layer_decay_rate=1.0, custom_keys={"head.": dict(lr_mult=20.0)}),
)
param_scheduler = [
    # From 0, as released: its warmup_lr is read and never used. LinearLR cannot start at 0 itself.
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=5000),
    # To 1e-6, and in the head to 20 times that.
    dict(
        type="CosineAnnealingLR", by_epoch=False, begin=5000, end=50000, eta_min_ratio=1e-6 / 3e-5
    ),
]

auto_scale_lr = dict(base_batch_size=128)
