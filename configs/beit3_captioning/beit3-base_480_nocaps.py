"""BEiT-3 base as a writer of captions, fine-tuned on COCO captions at 480 pixels, for NoCaps.

Reproduces: microsoft/unilm beit3/get_started, whose README has CIDEr 104.4 (NoCaps val).
Not trained by us.
Run: CONFIG=configs/beit3_captioning/beit3-base_480_nocaps.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_base_patch16_480_nocaps.pth  # the released weights
"""

_base_ = [
    "../_base_/models/beit3_captioning.py",
    "../_base_/datasets/nocaps_captioning_480.py",
    "../_base_/schedules/beit3_captioning_coco_10e.py",
    "../_base_/default_runtime_captioning.py",
]

optim_wrapper = dict(optimizer=dict(lr=1e-5))
default_hooks = dict(checkpoint=dict(interval=2213))  # an epoch
