"""The trial with the ViT-Adapter in place of the simple pyramid.

Reproduces: nothing published; docs/benchmarks.md compares it with the simple pyramid.
Run: python tools/misc/make_shapes.py --out data/shapes
     python tools/train.py configs/beit3_mask2former/mask2former_beit3-tiny-adapter_shapes.py
"""

_base_ = "./mask2former_beit3-tiny_shapes.py"

model = dict(
    backbone=dict(type="mmbeit3.BEiT3Adapter", conv_inplane=16, cffn_ratio=0.5),
    neck=None,
    decode_head=dict(in_channels=[128] * 4),
)
