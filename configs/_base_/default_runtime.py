"""What every config shares: scope, hooks, environment, logging."""

custom_imports = dict(imports=["mmbeit3"], allow_failed_imports=False)
default_scope = "mmdet"
# Resumes exactly, never loses a checkpoint, and works classes and accumulation out of the data.
runner_type = "mmbeit3.Runner"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    # Validations are logged at their iteration, as the loop counts no epochs.
    logger=dict(type="LoggerHook", interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="mmbeit3.CheckpointHook",
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        save_best="coco/bbox_mAP",
        rule="greater",
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="DetVisualizationHook"),
    # Data, weights and heads must have the same classes, under any Runner.
    classes=dict(type="mmbeit3.ClassesHook"),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)

# More backends, one line each: dict(type="WandbVisBackend"), dict(type="MLflowVisBackend"), ...
vis_backends = [dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")]
visualizer = dict(type="mmbeit3.Visualizer", vis_backends=vis_backends, name="visualizer")
log_processor = dict(
    type="mmbeit3.LogProcessor",  # short lines in the terminal, all values in the log file
    window_size=50,
    by_epoch=False,
    mean_pattern=r".*(loss|time|grad_norm|images_per_s).*",
)
# For a model too large for each GPU, model_wrapper_cfg=dict(type="mmbeit3.FullySharded") divides
# parameters, gradients and optimizer states over them (docs/training.md).
log_level = "INFO"
load_from = None
resume = False
