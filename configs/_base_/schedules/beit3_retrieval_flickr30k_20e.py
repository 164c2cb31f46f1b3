"""BEiT-3's released fine-tuning on Flickr30k captions (microsoft/unilm beit3/get_started, base).

20 epochs of 145,000 // 3072 = 47 steps, 5 of them warm-up; all else as on COCO.
"""

_base_ = "./beit3_retrieval_coco_15e.py"

train_cfg = dict(max_iters=940, val_interval=47)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=235),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=235, end=940, eta_min_ratio=1e-6 / 1e-4),
]
