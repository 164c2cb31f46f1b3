"""The trial by words that captions have taught: tower and names start from a dual encoder.

It learns from the boxes of three classes and is tested on five; the captions speak of all five. The
tower is the dual encoder's, with larger patches than that of the other tiny detectors.

Reproduces: nothing published.
Run: mmbeit3 make-shapes --out data/shapes_captions --train 3000 --val 200 --held-out 3
     mmbeit3 train beit3-tiny-retrieval_128_shapes
     mmbeit3 train configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny-words_shapes_captions.py
"""

_base_ = "./cascade-mask-rcnn_beit3-tiny-words_shapes.py"

# ============ often changed ============
dual_encoder = "work_dirs/beit3-tiny-retrieval_128_shapes/iter_2500.pth"
data_root = "data/shapes_captions/"
max_iters = 700
learning_rate = 4e-4

# ============ rarely changed ============
load_from = None
init_cfg = dict(type="Pretrained", checkpoint=dual_encoder)
# That of beit3-tiny-retrieval_128_shapes.
arch = dict(embed_dims=128, num_layers=2, num_heads=4, feedforward_channels=512)
model = dict(
    backbone=dict(
        arch=dict(arch, _delete_=True), patch_size=16, init_cfg=dict(init_cfg, _delete_=True)
    ),
    neck=dict(in_channels=128, scale_factors=[4, 2, 1]),
    class_embeddings=dict(
        text=dict(arch=dict(arch, _delete_=True)),
        tokenizer=dict(file=data_root.rstrip("/") + "/captions.spm"),
        init_cfg=init_cfg,
    ),
)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root.rstrip("/") + "/annotations/val.json")
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=learning_rate))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=50, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
