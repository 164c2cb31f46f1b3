"""COCO captions by Karpathy's splits: train with restval, 5,000 images to validate and to test.

Files and loaders are those of retrieval; images are larger, and changed by RandAugment.
"""

_base_ = "./coco_retrieval_384.py"

img_size = 480

train_pipeline = [
    _base_.train_pipeline[0],
    dict(_base_.train_pipeline[1], scale=img_size),
    _base_.train_pipeline[2],
    dict(type="RandAugment"),  # as released: --randaug, after crop and flip
    _base_.train_pipeline[3],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(_base_.test_pipeline[1], scale=(img_size, img_size)),
    _base_.test_pipeline[2],
]

train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=16, dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(batch_size=16, dataset=dict(pipeline=test_pipeline))

val_evaluator = dict(_delete_=True, type="mmbeit3.CaptionMetric")
test_evaluator = val_evaluator
