"""Mask2Former on BEiT-3 giant with the ViT-Adapter at 896, for semantic segmentation.

The paper's model (arXiv 2208.10442), as far as it tells; the rest is as for large.
"""

_base_ = "./mask2former_beit3-large_adapter.py"

model = dict(
    backbone=dict(
        arch="giant",
        patch_size=14,  # Table 11; 896 = 64 x 14
        drop_path_rate=0.5,  # Table 15
        init_cfg=None,  # never released
    ),
    decode_head=dict(in_channels=[1408, 1408, 1408, 1408]),  # the width of the tower
)
