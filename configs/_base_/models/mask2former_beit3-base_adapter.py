"""Mask2Former on BEiT-3 base with the ViT-Adapter at 896, for semantic segmentation.

arXiv 2208.10442 says of the model only that it follows ViT-Adapter (arXiv 2205.08534). The adapter
is that of ViT-Adapter's configs, by the defaults of BEiT3Adapter; it makes the pyramid, so there is
no neck. The head is Mask2Former's own, 256 channels wide: what ViT-Adapter's author used for BEiT
base (czczup/ViT-Adapter#133). Large and giant have a wider one.
"""

_base_ = "./mask2former_beit3_sfp.py"

model = dict(
    data_preprocessor=dict(size=(896, 896)),
    backbone=dict(type="mmbeit3.BEiT3Adapter", with_cp=True),
    neck=None,
    decode_head=dict(in_channels=[768, 768, 768, 768]),  # the width of the tower
    # ViT-Adapter's Mask2Former configs at 896
    test_cfg=dict(mode="slide", crop_size=(896, 896), stride=(512, 512)),
)
