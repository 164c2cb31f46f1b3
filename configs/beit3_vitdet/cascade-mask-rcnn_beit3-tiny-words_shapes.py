"""The trial by words: the tiny detector scores classes by their names, on made-up data.

It learns from the boxes of three classes, from where the plain one ended, and is tested on five.
Its text tower has learned nothing: set class_embeddings.init_cfg to a dual encoder that knows the
words, once there is one.

Reproduces: nothing published; docs/open_vocabulary.md has what it finds.
Run: mmbeit3 make-shapes --out data/shapes --train 2000 --val 200
     mmbeit3 train cascade-mask-rcnn_beit3-tiny_shapes \
         --cfg-options "train_dataloader.dataset.metainfo.classes=('disk','square','star')"
     mmbeit3 train configs/beit3_vitdet/cascade-mask-rcnn_beit3-tiny-words_shapes.py
"""

_base_ = "./cascade-mask-rcnn_beit3-tiny_shapes.py"

# ============ often changed ============
trained_classes = ("disk", "square", "star")
tested_classes = ("disk", "square", "star", "triangle", "ring")
load_from = "work_dirs/cascade-mask-rcnn_beit3-tiny_shapes/iter_700.pth"
max_iters = 250
learning_rate = 2e-4

# ============ rarely changed ============
model = dict(
    class_embeddings=dict(
        type="mmbeit3.ClassEmbeddings",
        text=dict(type="mmbeit3.BEiT3Text", arch="tiny", vocab_size=258, max_tokens=64),
        tokenizer=dict(file="data/shapes/captions.spm"),
        templates=("a {}",),  # as the captions speak of objects
    ),
)
train_dataloader = dict(dataset=dict(metainfo=dict(classes=trained_classes)))
val_dataloader = dict(dataset=dict(metainfo=dict(classes=tested_classes)))
test_dataloader = val_dataloader
val_evaluator = dict(metric="bbox", classwise=True)
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
optim_wrapper = dict(optimizer=dict(lr=learning_rate))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=20, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(checkpoint=dict(interval=max_iters))
