"""What every config of captioning shares: that of retrieval, with its own task and best score."""

_base_ = "./default_runtime_retrieval.py"

task = "captioning"

default_hooks = dict(checkpoint=dict(save_best="caption/CIDEr"))
