"""The small segmentor: the tiny one with 8 layers of 384 channels, from random weights."""

_base_ = "./mask2former_beit3-tiny_sfp.py"

model = dict(backbone=dict(arch="small"), neck=dict(in_channels=384))
