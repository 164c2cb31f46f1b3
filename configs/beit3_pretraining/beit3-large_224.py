"""BEiT-3 large pretrained on images, texts and pairs of your own, by the paper's recipe.

Reproduces: the recipe of arXiv 2208.10442 for the released large size, whose own schedule and code
were not published. Not trained by us.
Run: bash tools/dist_train.sh configs/beit3_pretraining/beit3-large_224.py 8
"""

_base_ = "./beit3-base_224.py"

model = dict(encoder=dict(arch="large"))
train_dataloader = dict(batch_size=32)
