"""Captions of the generated trial data: five of each image to train, and to compare with.

Data: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
"""

_base_ = "./shapes_retrieval.py"

data_root = "data/plain/"

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root, ann_file="annotations/captions_val.json"))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="mmbeit3.CaptionMetric")
test_evaluator = val_evaluator
