"""BEiT-3's released fine-tuning on NLVR2 (microsoft/unilm beit3/get_started, base).

20 epochs of 86,373 // 256 = 337 steps, 5 of them warm-up. Batch 256 is 8 GPUs x 32 statements. The
released --model_ema is in none of its commands; custom_hooks=[dict(type="mmbeit3.EMAHook")] would
be it.
"""

_base_ = "./beit3_retrieval_coco_15e.py"

train_cfg = dict(max_iters=6740, val_interval=337)
optim_wrapper = dict(
    optimizer=dict(lr=7e-4, weight_decay=0.2),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
)
param_scheduler = [
    # From 0, as released: its warmup_lr is read and never used. LinearLR cannot start at 0 itself.
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1685),
    # To 1e-6 at the full rate, and in proportion to it below.
    dict(type="CosineAnnealingLR", by_epoch=False, begin=1685, end=6740, eta_min_ratio=1e-6 / 7e-4),
]

auto_scale_lr = dict(base_batch_size=256)
