"""BEiT-3's COCO fine-tuning: Table 16 of arXiv 2208.10442, written for the model of 1B parameters.

The table gives: AdamW, peak learning rate 5e-5, 20 epochs, 250 warm-up steps, batch 64, weight
decay 0.1, layer decay 0.9, drop path 0.6, 1280 x 1280. It is silent on the shape of the schedule:
the steps are at the fractions 8/9 and 26/27 of ViTDet (detectron2 projects/ViTDet).
20 epochs x 117,266 images / 64 = 36,646 iterations.
"""

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=36646, val_interval=2000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")

optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",  # silent; ViTDet: float16
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=5e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1),
    # As many micro-batches as make auto_scale_lr.base_batch_size on the devices that there are.
    accumulative_counts="auto",
    clip_grad=None,  # silent; ViTDet and EVA: none
    constructor="mmbeit3.LayerDecayConstructor",
    # Silent on weight-decay exceptions; EVA (the same size of model): none.
    paramwise_cfg=dict(layer_decay_rate=0.9),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=36646,
        milestones=[32574, 35289],
        gamma=0.1,
    ),
]

auto_scale_lr = dict(enable=False, base_batch_size=64)
