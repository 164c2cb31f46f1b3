"""BEiT-3's released fine-tuning on COCO captions (microsoft/unilm beit3/get_started, base).

10 epochs of 566,747 // 256 = 2,213 steps, one of them warm-up. Batch 256 is 8 GPUs x 32 pairs.
Optimizer and what decays are those of retrieval.
"""

_base_ = "./beit3_retrieval_coco_15e.py"

train_cfg = dict(max_iters=22130, val_interval=2213)
optim_wrapper = dict(
    optimizer=dict(lr=4e-5),
    # As many micro-batches as make the batch on the devices that there are; the worst guesses are
    # left out of each micro-batch, as released of each GPU's batch.
    accumulative_counts="auto",
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    # From 0 to the peak, and to 1e-6, as released.
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=2213),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=2213, end=22130, eta_min=1e-6),
]
auto_scale_lr = dict(base_batch_size=256)
