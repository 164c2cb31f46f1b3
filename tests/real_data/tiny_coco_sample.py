"""The tiny detector on a few COCO photographs, to see it learn them by heart. Used by the tests."""

_base_ = "../../configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny_shapes.py"

data_root = "{{$MMBEIT3_DATA:../shared/data}}/coco_sample/"
image_size = (192, 192)
max_iters = 4000

load_image = dict(type="LoadImageFromFile")
load_annotations = dict(type="LoadAnnotations", with_bbox=True, with_mask=True)
resize = dict(type="Resize", scale=image_size, keep_ratio=True)
pipeline = [
    load_image,
    load_annotations,
    resize,
    dict(type="FilterAnnotations", min_gt_bbox_wh=(2, 2)),
    dict(type="PackDetInputs"),
]
dataset = dict(
    type="mmbeit3.CocoDataset",
    data_root=data_root,
    ann_file="annotations/instances_train2017.json",
    data_prefix=dict(img="train2017/"),
)
train_dataloader = dict(dataset=dict(_delete_=True, pipeline=pipeline, **dataset))
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        _delete_=True,
        test_mode=True,
        pipeline=[
            load_image,
            resize,
            load_annotations,  # at the original size, as the metric wants it
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
        **dataset,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + "annotations/instances_train2017.json")
test_evaluator = val_evaluator

train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=3e-4, weight_decay=0.0), paramwise_cfg=dict(layer_decay_rate=1.0)
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=200, end=max_iters, eta_min=3e-6),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
