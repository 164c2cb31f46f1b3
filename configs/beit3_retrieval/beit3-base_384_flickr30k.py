"""BEiT-3 base as a dual encoder, fine-tuned on Flickr30k captions at 384 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has IR@1 86.2 and TR@1 96.3 (1K test).
Not trained by us.
Run: CONFIG=configs/beit3_retrieval/beit3-base_384_flickr30k.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_base_patch16_384_f30k_retrieval.pth  # the released weights
"""

_base_ = [
    "../_base_/models/beit3_retrieval.py",
    "../_base_/datasets/flickr30k_retrieval_384.py",
    "../_base_/schedules/beit3_retrieval_flickr30k_20e.py",
    "../_base_/default_runtime_retrieval.py",
]

train_dataloader = dict(batch_size=192)  # a GPU, of 16
default_hooks = dict(checkpoint=dict(interval=47))  # an epoch
