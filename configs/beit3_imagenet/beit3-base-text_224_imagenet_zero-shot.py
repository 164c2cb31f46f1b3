"""BEiT-3 base asked for ImageNet's classes without having been trained on them.

Reproduces: nothing published: neither the paper nor the released code reports zero-shot ImageNet.
Names, sentences (mmbeit3.text.templates.TEMPLATES, ours) and their average are CLIP's habit. Takes
an official beit3_base_itc_patch16_224.pth or a retrieval checkpoint of this project. Not run.
Run: mmbeit3 test configs/beit3_imagenet/beit3-base-text_224_imagenet_zero-shot.py CHECKPOINT
"""

_base_ = "./beit3-base-text_224_imagenet.py"

model = dict(templates="default")
