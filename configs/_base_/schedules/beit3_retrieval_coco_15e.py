"""BEiT-3's released fine-tuning on COCO captions (microsoft/unilm beit3/get_started, base).

15 epochs of 566,747 // 3072 = 184 steps, 3 of them warm-up. Batch 3072 is 16 GPUs x 192 pairs
(base) or 32 x 96 (large).
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=2760, val_interval=184)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",  # released: float16, with a scaled loss
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=2e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    # Accumulating does not make the recipe's batch: a micro-batch is contrasted with itself alone
    # (over all GPUs), not with the others of its step. Use more GPUs, or live with fewer negatives.
    accumulative_counts=1,
    clip_grad=None,
    constructor="mmbeit3.LayerDecayConstructor",
    # As released: vectors, the scale, CLS and the positions of patches do not decay; positions of
    # texts and the embedding do. Heads and scale learn at the full rate.
    paramwise_cfg=dict(
        layer_decay_rate=0.65,
        flat_decay_mult=0.0,
        custom_keys={
            "vision.pos_embed": dict(decay_mult=0.0),
            "cls_token": dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    # From 0, as released: its warmup_lr is read and never used. LinearLR cannot start at 0 itself.
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=552),
    # To 1e-6 at the full rate, and in proportion to it below.
    dict(type="CosineAnnealingLR", by_epoch=False, begin=552, end=2760, eta_min_ratio=1e-6 / 2e-4),
]

auto_scale_lr = dict(enable=False, base_batch_size=3072)
