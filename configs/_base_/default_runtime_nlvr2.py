"""What every config of NLVR2 shares: that of classification, with its own score."""

_base_ = "./default_runtime_classification.py"

task = "nlvr2"

default_hooks = dict(checkpoint=dict(save_best="nlvr2/accuracy"))
