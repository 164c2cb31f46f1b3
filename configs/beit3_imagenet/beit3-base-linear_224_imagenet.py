"""BEiT-3 base with a linear layer on ImageNet, the released recipe.

Reproduces: microsoft/unilm beit3, "Fine-tuning on ImageNet-1k" at base: 85.4 top-1, 97.6 top-5
there. Tests run with the official beit3_base_patch16_224_in1k.pth, too.
Run: bash tools/dist_train.sh configs/beit3_imagenet/beit3-base-linear_224_imagenet.py 8
"""

_base_ = [
    "../_base_/models/beit3_image_classifier.py",
    "../_base_/datasets/imagenet_224.py",
    "../_base_/schedules/beit3_imagenet_50e.py",
    "../_base_/default_runtime_classification.py",
]
