"""The trial of new pairs of known words: "pink disk" after "pink star" and "black disk".

Classes are a color and a shape, or a shape where the color has no name. It learns from where the
plain detector ended, without boxes of three pairs, and is tested on all; the text tower learns with
it. The evaluation has an AP for each class.

Reproduces: nothing published.
Run: mmbeit3 make-shapes --out data/shapes --train 2000 --val 200 --held-out 3
     mmbeit3 train cascade-mask-rcnn_beit3-tiny_shapes
     mmbeit3 train configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny-words_shapes_pairs.py
"""

_base_ = "./cascade-mask-rcnn_beit3-tiny-words_shapes.py"

# ============ often changed ============
held_out = ("pink disk", "brown square", "green square")  # as in held_out.json
max_iters = 500
learning_rate = 4e-4

# ============ rarely changed ============
shapes = ("disk", "square", "triangle", "star", "ring")
colors = ("red", "brown", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
colors += ("black", "gray", "white")
tested_classes = shapes + tuple(f"{color} {shape}" for shape in shapes for color in colors)
trained_classes = tuple(name for name in tested_classes if name not in held_out)
model = dict(class_embeddings=dict(frozen=False))
train_dataloader = dict(
    dataset=dict(ann_file="annotations/named_train.json", metainfo=dict(classes=trained_classes))
)
val_dataloader = dict(
    dataset=dict(ann_file="annotations/named_val.json", metainfo=dict(classes=tested_classes))
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file="data/shapes/annotations/named_val.json")
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=learning_rate))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=20, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
