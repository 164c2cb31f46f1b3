"""BEiT-3 large as a dual encoder, fine-tuned on COCO captions at 384 pixels, Karpathy's splits.

Reproduces: microsoft/unilm beit3/get_started, whose README has IR@1 63.4 and TR@1 82.1 (5K test).
Not trained by us.
Run: CONFIG=configs/beit3_retrieval/beit3-large_384_coco.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_large_patch16_384_coco_retrieval.pth  # the released weights
"""

_base_ = "./beit3-base_384_coco.py"

model = dict(
    encoder=dict(arch="large"),
    init_cfg=dict(
        checkpoint="https://github.com/addf400/files/releases/download/beit3/"
        "beit3_large_itc_patch16_224.pth"
    ),
)
train_dataloader = dict(batch_size=96)  # a GPU, of 32
optim_wrapper = dict(optimizer=dict(lr=5e-5), paramwise_cfg=dict(layer_decay_rate=0.85))
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=552),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=552, end=2760, eta_min_ratio=1e-6 / 5e-5),
]
