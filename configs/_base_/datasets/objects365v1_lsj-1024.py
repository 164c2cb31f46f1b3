"""Objects365 v1, otherwise as objects365v2_lsj-1024.py; its 365 classes are partly others."""

_base_ = "./objects365v2_lsj-1024.py"

data_root = "data/objects365v1/"

train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file=data_root.rstrip("/") + "/annotations/val.json")
test_evaluator = val_evaluator
