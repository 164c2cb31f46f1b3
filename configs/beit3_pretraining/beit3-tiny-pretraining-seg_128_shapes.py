"""The trial of the tiny segmentor's tower, which is narrower and deeper than the detector's.

Reproduces: nothing published; as beit3-tiny-pretraining-images_128_shapes, with the same tokenizer.
Run: mmbeit3 train configs/beit3_pretraining/beit3-tiny-pretraining-seg_128_shapes.py
"""

_base_ = "./beit3-tiny-pretraining-images_128_shapes.py"

model = dict(
    encoder=dict(
        arch=dict(
            _delete_=True, embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512
        )
    )
)
