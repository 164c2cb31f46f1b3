"""BEiT-3 base answers questions of VQAv2, at 480 pixels.

Reproduces: microsoft/unilm beit3/get_started, whose README has 77.65 on test-dev (78.46 from the
indomain weights). Not trained by us.
Run: CONFIG=configs/beit3_vqa/beit3-base_480_vqav2.py
     bash tools/dist_train.sh $CONFIG 8
     mmbeit3 test $CONFIG beit3_base_patch16_480_vqa.pth  # the released weights
"""

_base_ = [
    "../_base_/models/beit3_vqa.py",
    "../_base_/datasets/vqav2_480.py",
    "../_base_/schedules/beit3_vqav2_10e.py",
    "../_base_/default_runtime_vqa.py",
]
