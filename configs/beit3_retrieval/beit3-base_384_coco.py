"""BEiT-3 base as a dual encoder, fine-tuned on COCO captions at 384 pixels, Karpathy's splits.

Reproduces: microsoft/unilm beit3/get_started, whose README has IR@1 61.4 and TR@1 79.1 (5K test).
Not trained by us.
Run: CONFIG=configs/beit3_retrieval/beit3-base_384_coco.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_base_patch16_384_coco_retrieval.pth  # the released weights
"""

_base_ = [
    "../_base_/models/beit3_retrieval.py",
    "../_base_/datasets/coco_retrieval_384.py",
    "../_base_/schedules/beit3_retrieval_coco_15e.py",
    "../_base_/default_runtime_retrieval.py",
]

train_dataloader = dict(batch_size=192)  # a GPU, of 16
default_hooks = dict(checkpoint=dict(interval=184))  # an epoch
