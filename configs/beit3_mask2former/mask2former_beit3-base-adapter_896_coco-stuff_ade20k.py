"""BEiT-3 base, ViT-Adapter, Mask2Former, ADE20K at 896, starting from COCO-Stuff 164k.

Reproduces: as mask2former_beit3-base-adapter_896_ade20k.py, but as a second step, which takes over
all weights but those of the classes. Not trained by us.
Run: first mask2former_beit3-base-adapter_896_coco-stuff164k.py, then
     CONFIG=configs/beit3_mask2former/mask2former_beit3-base-adapter_896_coco-stuff_ade20k.py
     bash tools/dist_train.sh $CONFIG 8
"""

_base_ = "./mask2former_beit3-base-adapter_896_ade20k.py"

model = dict(backbone=dict(init_cfg=None))
load_from = "work_dirs/mask2former_beit3-base-adapter_896_coco-stuff164k/iter_80000.pth"
