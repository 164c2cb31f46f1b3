"""BEiT-3 base judges statements of NLVR2, at 224 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has 83.6 on dev and 84.4 on test-P (84.6
and 85.3 from the indomain weights). Not trained by us.
Run: CONFIG=configs/beit3_nlvr2/beit3-base_224_nlvr2.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_base_patch16_224_nlvr2.pth  # the released weights
"""

_base_ = [
    "../_base_/models/beit3_nlvr2.py",
    "../_base_/datasets/nlvr2_224.py",
    "../_base_/schedules/beit3_nlvr2_20e.py",
    "../_base_/default_runtime_nlvr2.py",
]

default_hooks = dict(checkpoint=dict(interval=337))  # an epoch
