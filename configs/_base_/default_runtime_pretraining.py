"""What every config of pretraining shares: scope, hooks, environment, logging."""

_base_ = "./default_runtime.py"

default_scope = "mmbeit3"
task = "pretraining"

default_hooks = dict(
    _delete_=True,
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="mmbeit3.CheckpointHook", by_epoch=False, interval=5000, max_keep_ckpts=2),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
visualizer = dict(type="mmengine.Visualizer")
log_processor = dict(mean_pattern=r".*(loss|acc|codes_used|time|grad_norm|images_per_s).*")
