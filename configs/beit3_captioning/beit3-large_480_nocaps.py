"""BEiT-3 large as a writer of captions, fine-tuned on COCO captions at 480 pixels, for NoCaps.

Reproduces: microsoft/unilm beit3/get_started, whose README has CIDEr 120.2 (NoCaps val).
Not trained by us.
Run: CONFIG=configs/beit3_captioning/beit3-large_480_nocaps.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_large_patch16_480_nocaps.pth  # the released weights
"""

_base_ = "./beit3-base_480_nocaps.py"

model = dict(
    encoder=dict(arch="large"),
    init_cfg=dict(
        checkpoint="https://github.com/addf400/files/releases/download/beit3/"
        "beit3_large_patch16_224.pth"
    ),
)
optim_wrapper = dict(optimizer=dict(lr=8e-6))
