"""The trial on images alone: the tiny detector's tower, pretrained on generated scenes.

Reproduces: nothing published; docs/benchmarks.md has what it brings to the tiny detector.
Run: mmbeit3 make-shapes --out data/shapes_pretraining --train 10000 --val 200 --seed 1
     mmbeit3 train configs/beit3_pretraining/edge-codes-tiny_128_shapes.py
     mmbeit3 train configs/beit3_pretraining/beit3-tiny-pretraining-images_128_shapes.py
"""

_base_ = "./beit3-tiny-pretraining_128_shapes.py"

# ============ often changed ============
max_iters = 6000
image_tokenizer = "work_dirs/edge-codes-tiny_128_shapes/iter_300.pth"

# ============ rarely changed ============
model = dict(
    image_tokenizer=dict(
        _delete_=True,
        type="mmbeit3.TeacherCodes",
        teacher=dict(type="mmbeit3.EdgeTeacher", patch_size=8),
        img_size=128,
        patch_size=8,
        num_codes=1024,
        init_cfg=dict(type="Pretrained", checkpoint=image_tokenizer),
    ),
    num_codes=1024,
    # From random weights a tower must first find what codes are: it tells visible ones, too.
    loss_weights=dict(visible_image=1.0),
)
train_dataloader = dict(
    batch_size=8, dataset=dict(datasets=dict(_delete_=True, images=_base_.images))
)
val_dataloader = dict(dataset=dict(datasets=dict(_delete_=True, images=_base_.val_images)))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=1000)
optim_wrapper = dict(type="mmbeit3.AmpOptimWrapper", dtype="bfloat16")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=100, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=1000))
