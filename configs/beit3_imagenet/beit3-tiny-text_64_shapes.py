"""The trial by names: a tiny BEiT-3 on crops of the generated shapes against "red disk" and so on.

Reproduces: nothing published; compared with beit3-tiny-linear_64_shapes, it can be asked for colors
and shapes that it has not seen together (docs/classification.md).
Run: mmbeit3 make-shapes --crops --out data/shapes_crops
     mmbeit3 train configs/beit3_imagenet/beit3-tiny-text_64_shapes.py
"""

_base_ = "./beit3-tiny-linear_64_shapes.py"

model = dict(
    _delete_=True,
    type="mmbeit3.BEiT3TextClassifier",
    data_preprocessor=dict(
        type="mmbeit3.ImageTextPreprocessor",
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        tokenizer=dict(file=_base_.data_root + "captions.spm"),
    ),
    encoder=dict(
        type="mmbeit3.BEiT3Multiway", arch="tiny", img_size=64, patch_size=16, vocab_size=258
    ),
    label_smoothing=0.1,
)
