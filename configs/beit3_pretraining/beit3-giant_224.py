"""The paper's giant: one attention for images and texts, vision-language experts on top.

Reproduces: the recipe of arXiv 2208.10442 (table 2, appendix B), whose weights and code were never
published. Not trained by us.
Weights, gradients and moments of 1.95 billion parameters are 31 GB on each GPU: sharding does not
take layers that share their attention.
Run: bash tools/dist_train.sh configs/beit3_pretraining/beit3-giant_224.py 8
"""

_base_ = "./beit3-base_224.py"

model = dict(
    # Patches of 14 pixels: 16 x 16 of them. The tokenizer has as many of 16 pixels at 256, to which
    # images and its positions are resized; what the authors did is not known.
    encoder=dict(arch="giant", patch_size=14, attention="shared", vl_layers=3),
    image_tokenizer=dict(img_size=256),
)
train_dataloader = dict(batch_size=8)
