"""What every classification config shares: what retrieval has, with classes and another score."""

_base_ = "./default_runtime_retrieval.py"

task = "classification"

default_hooks = dict(
    checkpoint=dict(interval=5000, save_best="accuracy/top1"),
    # Data, weights and head must have the same classes; a model that reads names gets them here.
    classes=dict(type="mmbeit3.ClassesHook"),
)
