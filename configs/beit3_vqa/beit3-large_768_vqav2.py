"""BEiT-3 large answers questions of VQAv2, at 768 pixels.

Reproduces: microsoft/unilm beit3, whose README has 82.97 on test-dev and 83.03 on test-std. Its
training, with questions of Visual Genome, was not released: here it is that of 480 pixels, from the
same indomain weights. Not trained by us.
Run: CONFIG=configs/beit3_vqa/beit3-large_768_vqav2.py
     mmbeit3 test $CONFIG beit3_large_indomain_patch16_768_vgqaaug_vqa.pth  # the released weights
"""

_base_ = "./beit3-large_480_vqav2.py"

img_size = 768

model = dict(
    encoder=dict(
        img_size=img_size,
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_indomain_patch16_224.pth"
        ),
    )
)
train_pipeline = [
    dict(step, scale=img_size) if step["type"] == "RandomResizedCrop" else step
    for step in _base_.train_pipeline
]
test_pipeline = [
    dict(step, scale=(img_size, img_size)) if step["type"] == "Resize" else step
    for step in _base_.test_pipeline
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
