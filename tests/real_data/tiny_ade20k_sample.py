"""The tiny Mask2Former on eight ADE20K photographs, to see it learn them by heart; for tests."""

_base_ = "../../configs/beit3_mask2former/mask2former_beit3-tiny_shapes.py"

data_root = "{{$MMBEIT3_DATA:../shared/data}}/ade20k_sample"
size = (192, 192)
max_iters = 600
num_classes = 150

load_image, load_labels = dict(type="LoadImageFromFile"), dict(type="LoadAnnotations")
resize = dict(type="Resize", scale=size, keep_ratio=False)
pack = dict(type="PackSegInputs")
dataset = dict(
    _delete_=True,
    type="mmbeit3.ADE20KDataset",
    data_root=data_root,
    data_prefix=dict(img_path="images/validation", seg_map_path="annotations/validation"),
    indices=8,
)
train_dataloader = dict(
    batch_size=4, dataset=dict(pipeline=[load_image, load_labels, resize, pack], **dataset)
)
val_dataloader = dict(
    batch_size=1,
    dataset=dict(pipeline=[load_image, resize, load_labels, pack], test_mode=True, **dataset),
)
test_dataloader = val_dataloader

model = dict(
    data_preprocessor=dict(size=size),
    backbone=dict(img_size=192),
    decode_head=dict(
        num_classes=num_classes,
        num_queries=50,
        loss_cls=dict(class_weight=[1.0] * num_classes + [0.1]),
    ),
)
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=0.0))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
