"""BEiT-3 base as a writer of captions, fine-tuned on Karpathy's COCO at 480 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has CIDEr 133.6 (Karpathy's test).
Not trained by us.
Run: CONFIG=configs/beit3_captioning/beit3-base_480_coco.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_base_patch16_480_coco_captioning.pth  # the released weights
"""

_base_ = [
    "../_base_/models/beit3_captioning.py",
    "../_base_/datasets/coco_captioning_480.py",
    "../_base_/schedules/beit3_captioning_coco_10e.py",
    "../_base_/default_runtime_captioning.py",
]

default_hooks = dict(checkpoint=dict(interval=2213))  # an epoch
