"""The trial's image tokenizer: 1024 codes of the edges around patches of 8 pixels.

Reproduces: nothing published; k-means, without a network that learns (docs/pretraining.md).
Run: mmbeit3 make-shapes --out data/shapes_pretraining --train 10000 --val 200 --seed 1
     mmbeit3 train configs/beit3_pretraining/edge-codes-tiny_128_shapes.py
"""

_base_ = [
    "../_base_/datasets/shapes_pretraining.py",
    "../_base_/default_runtime_pretraining.py",
]

# ============ often changed ============
max_iters = 300

# ============ rarely changed ============
model = dict(
    type="mmbeit3.TeacherCodes",
    teacher=dict(type="mmbeit3.EdgeTeacher", patch_size=8),
    img_size=128,
    patch_size=8,  # as the tower's
    num_codes=1024,
    data_preprocessor=dict(type="mmbeit3.ImageTextPreprocessor"),
)

train_dataloader = dict(dataset=dict(_delete_=True, **_base_.images))
val_dataloader = dict(
    collate_fn=dict(_delete_=True, type="pseudo_collate"),
    dataset=dict(_delete_=True, **_base_.val_images),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.CodeBookMetric")
test_evaluator = val_evaluator
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
# The book has no gradients: the optimizer has nothing to move.
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=1e-3))
param_scheduler = []
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=max_iters))
randomness = dict(seed=0)
