"""What every config of image-text retrieval shares: scope, task, hooks, environment, logging."""

_base_ = "./default_runtime.py"

default_scope = "mmbeit3"
task = "retrieval"

default_hooks = dict(
    _delete_=True,
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmbeit3.CheckpointHook",
        by_epoch=False,
        interval=500,
        max_keep_ckpts=2,
        save_best="retrieval/mean_recall",  # the mean of six, as the released code selects
        rule="greater",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
visualizer = dict(type="mmengine.Visualizer")
