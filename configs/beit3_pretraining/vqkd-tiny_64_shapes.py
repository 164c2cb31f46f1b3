"""The image tokenizer of the trials of images and texts: 256 codes for patches of plain pictures.

Reproduces: nothing published; as vqkd-tiny_128_shapes, from pixels as they are.
Run: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_pretraining/vqkd-tiny_64_shapes.py
"""

_base_ = "./vqkd-tiny_128_shapes.py"

# ============ often changed ============
max_iters = 400
data_root = "data/plain/"

# ============ rarely changed ============
# Normalized, the noise of the gray ground would take most of the codes.
model = dict(img_size=64, teacher=dict(normalize=False))

train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type="LoadImageFromFile", _scope_="mmbeit3"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackImageText"),
        ],
    ),
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(type="mmbeit3.AmpOptimWrapper")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
