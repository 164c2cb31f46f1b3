"""Mask2Former on a tiny BEiT-3 with the simple pyramid, from random weights: for two CPU cores.

Other than the recipe: 4 layers, patches of 8 pixels and a pyramid of strides 4 to 32, for images of
128 to 384 pixels; narrow and shallow, with few queries and points.
"""

_base_ = "./mask2former_beit3_sfp.py"

channels = 64

attention = dict(embed_dims=channels, num_heads=4)
ffn = dict(embed_dims=channels, feedforward_channels=4 * channels)
model = dict(
    backbone=dict(arch="tiny", patch_size=8, drop_path_rate=0.0, init_cfg=None),
    neck=dict(in_channels=192, out_channels=channels, scale_factors=[2, 1, 0.5]),
    decode_head=dict(
        in_channels=[channels] * 4,
        feat_channels=channels,
        out_channels=channels,
        num_queries=50,
        pixel_decoder=dict(
            encoder=dict(num_layers=2, layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=ffn)),
            positional_encoding=dict(num_feats=channels // 2),
        ),
        positional_encoding=dict(num_feats=channels // 2),
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(self_attn_cfg=attention, cross_attn_cfg=attention, ffn_cfg=ffn),
        ),
        train_cfg=dict(num_points=2048),
    ),
)
