"""Mask2Former on BEiT-3 large with the ViT-Adapter at 896, for semantic segmentation.

The values are those of ViT-Adapter's BEiT-2 large, segmentation/configs/ade20k/
mask2former_beitv2_adapter_large_896_80k_ade20k_ss.
"""

_base_ = "./mask2former_beit3-base_adapter.py"

channels = 1024
attention = dict(embed_dims=channels, num_heads=32)
ffn = dict(embed_dims=channels, feedforward_channels=4 * channels)
model = dict(
    backbone=dict(
        arch="large",
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_itc_patch16_224.pth"
        ),
    ),
    decode_head=dict(
        in_channels=[1024, 1024, 1024, 1024],  # the width of the tower
        feat_channels=channels,
        out_channels=channels,
        num_queries=200,
        pixel_decoder=dict(
            # All six layers are recomputed in the backward pass; there, their FFNs are.
            encoder=dict(num_cp=6, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
            positional_encoding=dict(num_feats=channels // 2),
        ),
        positional_encoding=dict(num_feats=channels // 2),
        transformer_decoder=dict(
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn)
        ),
    ),
)
