"""The start of the trials of images and texts: masked data modeling of plain pictures.

Reproduces: nothing published; masked data modeling at a size that two CPU cores run.
Run: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_pretraining/vqkd-tiny_64_shapes.py
     mmbeit3 train configs/beit3_pretraining/beit3-tiny-pretraining_64_shapes.py
"""

_base_ = "./beit3-tiny-pretraining_128_shapes.py"

# ============ often changed ============
max_iters = 5000
data_root = "data/plain/"
image_tokenizer = "work_dirs/vqkd-tiny_64_shapes/iter_400.pth"

# ============ rarely changed ============
model = dict(
    encoder=dict(  # that of the trials
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=2, num_heads=4, feedforward_channels=512
        ),
        img_size=64,
    ),
    image_tokenizer=dict(img_size=64, init_cfg=dict(checkpoint=image_tokenizer)),
    data_preprocessor=dict(tokenizer=dict(file=data_root + "captions.spm")),
)

elsewhere = dict(data_root=data_root)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(
        datasets=dict(
            images=dict(
                data_root=data_root,
                pipeline=[
                    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
                    dict(type="RandomFlip", prob=0.5),
                    dict(type="PackImageText"),
                ],
            ),
            texts=elsewhere,
            pairs=elsewhere,
        )
    ),
)
val_dataloader = dict(
    dataset=dict(datasets=dict(images=elsewhere, texts=elsewhere, pairs=elsewhere))
)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(type="mmbeit3.AmpOptimWrapper")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=max_iters))
