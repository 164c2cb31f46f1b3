"""BEiT-3 large as a dual encoder, fine-tuned on Flickr30k captions at 384 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has IR@1 88.1 and TR@1 97.2 (1K test).
Not trained by us.
Run: CONFIG=configs/beit3_retrieval/beit3-large_384_flickr30k.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_large_patch16_384_f30k_retrieval.pth  # the released weights
"""

_base_ = "./beit3-base_384_flickr30k.py"

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
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=235),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=235, end=940, eta_min_ratio=1e-6 / 5e-5),
]
