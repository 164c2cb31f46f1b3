"""The start of the trials of images and texts: masked data modeling of plain pictures.

Reproduces: nothing published; masked data modeling at a size that two CPU cores run.
Run: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_pretraining/edge-codes-tiny_64_shapes.py
     mmbeit3 train configs/beit3_pretraining/beit3-tiny-pretraining_64_shapes.py
"""

_base_ = "./beit3-tiny-pretraining_128_shapes.py"

# ============ often changed ============
max_iters = 5000
data_root = "data/plain/"
image_tokenizer = "work_dirs/edge-codes-tiny_64_shapes/iter_300.pth"

# ============ rarely changed ============
model = dict(
    encoder=dict(  # that of the trials
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=4, num_heads=4, feedforward_channels=512
        ),
        img_size=64,
    ),
    image_tokenizer=dict(
        _delete_=True,
        type="mmbeit3.TeacherCodes",
        teacher=dict(type="mmbeit3.EdgeTeacher", patch_size=8, color=0.5),
        img_size=64,
        patch_size=8,
        num_codes=512,
        init_cfg=dict(type="Pretrained", checkpoint=image_tokenizer),
    ),
    num_codes=512,
    image_mask_rate=0.2,  # of 40 % whole objects are gone, and their words cannot be told
    # To look a shape up for its word, it must be known first: visible codes are told, too.
    loss_weights=dict(visible_pair_image=1.0),
    data_preprocessor=dict(tokenizer=dict(file=data_root + "captions.spm")),
)

# Pairs alone: only they teach to look words up in pictures.
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        datasets=dict(
            _delete_=True,
            pairs=dict(
                type="mmbeit3.CocoCaptionsDataset",
                data_root=data_root,
                ann_file="annotations/captions_train.json",
                data_prefix=dict(img="train/"),
                pipeline=_base_.pair_pipeline,
            ),
        )
    ),
)
val_dataloader = dict(
    dataset=dict(
        datasets=dict(
            _delete_=True,
            pairs=dict(_base_.val_captions, data_root=data_root, pipeline=_base_.pair_pipeline),
        )
    )
)
test_dataloader = val_dataloader
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(type="mmbeit3.AmpOptimWrapper")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(logger=dict(interval=100), checkpoint=dict(interval=max_iters))
