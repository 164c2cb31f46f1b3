"""BEiT-3 base pretrained on images, texts and pairs of your own, by the paper's recipe.

Reproduces: the recipe of arXiv 2208.10442 for the released base size, whose own schedule and code
were not published. Not trained by us.
Run: bash tools/dist_train.sh configs/beit3_pretraining/beit3-base_224.py 8
"""

_base_ = [
    "../_base_/models/beit3_pretraining.py",
    "../_base_/datasets/pretraining_224.py",
    "../_base_/schedules/beit3_pretraining_1m.py",
    "../_base_/default_runtime_pretraining.py",
]
