"""ViTDet's schedule: 100 epochs of COCO at batch 64, AdamW, layer-wise learning-rate decay.

Values without a note are those of detectron2's projects/ViTDet configs. 184,375 iterations x 64
images / 118,000 images = 100 epochs.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=184375, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,  # bfloat16 has float32's range: nothing to scale
    optimizer=dict(type="AdamW", lr=1e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=None,
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        # No weight decay on the LNs and positions of the backbone; detectron2 does decay the
        # channel-first LNs of pyramid and heads.
        custom_keys={
            "backbone.pos_embed": dict(decay_mult=0.0),
            ".norm1.": dict(decay_mult=0.0),
            ".norm2.": dict(decay_mult=0.0),
            ".attn.norm.": dict(decay_mult=0.0),
            ".ffn.norm.": dict(decay_mult=0.0),
        },
    ),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=184375,
        milestones=[163889, 177546],
        gamma=0.1,
    ),
]

# `--auto-scale-lr` scales the learning rate from this batch to yours.
auto_scale_lr = dict(enable=False, base_batch_size=64)
