"""What every classification config shares: scope, task, hooks, environment, logging."""

_base_ = "./default_runtime.py"

default_scope = "mmbeit3"
task = "classification"

default_hooks = dict(
    _delete_=True,
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmbeit3.CheckpointHook",
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        save_best="accuracy/top1",
        rule="greater",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    # Data, weights and head must have the same classes; a model that reads names gets them here.
    classes=dict(type="mmbeit3.ClassesHook"),
)
visualizer = dict(type="mmengine.Visualizer")
