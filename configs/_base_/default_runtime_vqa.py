"""What every config of visual question answering shares: that of classification, by answers."""

_base_ = "./default_runtime_classification.py"

task = "vqa"

default_hooks = dict(checkpoint=dict(save_best="vqa/accuracy"))
