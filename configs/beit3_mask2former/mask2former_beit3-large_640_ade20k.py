"""BEiT-3 large, simple feature pyramid, Mask2Former, ADE20K at 640.

Reproduces: nothing published; see mask2former_beit3-base_512_ade20k.py. Not trained by us.
Run: CONFIG=configs/beit3_mask2former/mask2former_beit3-large_640_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = "./mask2former_beit3-base_640_ade20k.py"

model = dict(
    backbone=dict(
        arch="large",
        drop_path_rate=0.3,  # ViT-Adapter, BEiT-2 large with Mask2Former
        with_cp=True,
        init_cfg=dict(
            checkpoint="https://github.com/addf400/files/releases/download/beit3/"
            "beit3_large_itc_patch16_224.pth"
        ),
    ),
    neck=dict(in_channels=1024),
    decode_head=dict(num_queries=200),  # ViT-Adapter
)
# ViT-Adapter, BEiT-2 large with Mask2Former: 2e-5, layer decay 0.9
optim_wrapper = dict(optimizer=dict(lr=2e-5))
