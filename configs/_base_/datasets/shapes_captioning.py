"""Captions of the generated trial data: five of each image to train, and to compare with.

Data: mmbeit3 make-shapes --out data/shapes_captions --train 3000 --val 200 --held-out 3
"""

_base_ = "./shapes_retrieval.py"

val_dataloader = dict(dataset=dict(ann_file="annotations/captions_val.json"))
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="mmbeit3.CaptionMetric")
test_evaluator = val_evaluator
