"""What every segmentation config shares: scope, hooks, environment, logging."""

_base_ = "./default_runtime.py"

default_scope = "mmseg"

default_hooks = dict(
    checkpoint=dict(save_best="mIoU"), visualization=dict(type="SegVisualizationHook")
)
tta_model = dict(type="mmbeit3.SegTTAModel")  # tools/test.py --tta
