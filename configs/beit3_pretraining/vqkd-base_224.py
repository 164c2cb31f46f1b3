"""VQ-KD, BEiT v2's image tokenizer with CLIP as its teacher, on images of your own.

Reproduces: microsoft/unilm beit2, tokenizer with three decoder layers (100 epochs of ImageNet-1K).
Its cosine ends at 1e-5. Not trained by us.
Run: bash tools/dist_train.sh configs/beit3_pretraining/vqkd-base_224.py 8
"""

_base_ = [
    "../_base_/datasets/pretraining_224.py",
    "../_base_/schedules/beit3_pretraining_1m.py",
    "../_base_/default_runtime_pretraining.py",
]

max_iters = 250_200  # 100 epochs of 1,281,167 images // 512

model = dict(
    type="mmbeit3.VQKD",
    arch="base",
    img_size=224,
    patch_size=16,
    decoder_layers=3,
    teacher=dict(
        type="mmbeit3.TimmTeacher",
        model="vit_base_patch16_clip_224.openai",
        pretrained=True,
        with_head=True,  # 512 channels, as in the published files
    ),
    data_preprocessor=dict(type="mmbeit3.ImageTextPreprocessor"),
)
images = _base_.train_dataloader.dataset.datasets.images
images.pipeline[1] = dict(type="TimmAugment", scale=224, crop_area=(0.08, 1.0))
train_dataloader = dict(batch_size=64, dataset=dict(_delete_=True, **images))
val_dataloader = dict(
    collate_fn=dict(_delete_=True, type="pseudo_collate"),
    dataset=dict(_delete_=True, **_base_.val_dataloader.dataset.datasets.images),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.CodeBookMetric")
test_evaluator = val_evaluator
train_cfg = dict(max_iters=max_iters)
optim_wrapper = dict(
    optimizer=dict(lr=2e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=1e-4),
    clip_grad=None,
    constructor="DefaultOptimWrapperConstructor",
    paramwise_cfg=dict(_delete_=True, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=25_020),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=25_020, end=max_iters, eta_min=1e-5),
]
auto_scale_lr = dict(base_batch_size=512)
