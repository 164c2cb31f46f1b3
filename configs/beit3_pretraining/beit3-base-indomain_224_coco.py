"""Masked data modeling continued on COCO's captions, from the official base weights.

Reproduces: the step before the released _indomain files, which went on pretraining on images and
captions of COCO and Visual Genome; its schedule is not known, and the values here are ours. Not
trained by us.
Run: bash tools/dist_train.sh configs/beit3_pretraining/beit3-base-indomain_224_coco.py 8
"""

_base_ = [
    "../_base_/models/beit3_pretraining.py",
    "../_base_/datasets/coco_retrieval_384.py",
    "../_base_/schedules/beit3_pretraining_1m.py",
    "../_base_/default_runtime_pretraining.py",
]

max_iters = 20_000

model = dict(
    init_cfg=dict(
        type="Pretrained",
        checkpoint="https://github.com/addf400/files/releases/download/beit3/"
        "beit3_base_patch16_224.pth",
    )
)
pairs = _base_.train_dataloader.dataset
pairs.pipeline[1].scale = 224
train_dataloader = dict(
    batch_size=64,
    dataset=dict(_delete_=True, type="mmbeit3.PretrainingDataset", datasets=dict(pairs=pairs)),
)
val_pairs = _base_.val_dataloader.dataset  # of an image with several captions, the first
val_pairs.pipeline[1].scale = (224, 224)
val_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type="mmbeit3.collate_parts"),
    dataset=dict(
        _delete_=True,
        type="mmbeit3.PretrainingDataset",
        test_mode=True,
        datasets=dict(pairs=val_pairs),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(_delete_=True, type="mmbeit3.MaskedTokenMetric")
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=1000)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1000),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=1000, end=max_iters, eta_min_ratio=0.01),
]
auto_scale_lr = dict(base_batch_size=512)
