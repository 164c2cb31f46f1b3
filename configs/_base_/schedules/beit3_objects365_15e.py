"""BEiT-3's Objects365 stage: Table 16 of arXiv 2208.10442, written for the model of 1B parameters.

The table gives: AdamW, peak learning rate 1e-4, 15 epochs, 250 warm-up steps, batch 64, weight
decay 0.1, layer decay 0.9, drop path 0.6, 1024 x 1024. It is silent on the shape of the schedule:
the steps are at the fractions 8/9 and 26/27 of ViTDet (detectron2 projects/ViTDet), as in
beit3_coco_20e.py. It is silent on the version of Objects365, too. Of v2, whose archives hold
1,742,289 training images (ultralytics/yolov5#5194), 15 epochs are 15 x 1,742,289 / 64 = 408,349
iterations; EVA-01 trained its model of the same size for 380,000. Of v1's 608,606 images they are
142,643, with steps at 126,794 and 137,360.
"""

_base_ = "./beit3_coco_20e.py"

train_cfg = dict(max_iters=408349, val_interval=50000)
optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=250),
    dict(
        type="MultiStepLR",
        by_epoch=False,
        begin=0,
        end=408349,
        milestones=[362977, 393225],
        gamma=0.1,
    ),
]
