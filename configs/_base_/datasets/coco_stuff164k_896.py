"""COCO-Stuff 164k (171 classes), crops of 896 x 896: ViT-Adapter's intermediate training.

`python tools/dataset_converters/coco_stuff164k.py --help` prepares it. Every label map is checked
before the first training, and the result is kept. Pipelines and loaders are those of ADE20K.
"""

_base_ = "./ade20k_896.py"

data_root = "data/coco_stuff164k"

train_dataloader = dict(
    dataset=dict(
        type="mmbeit3.COCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/train2017", seg_map_path="annotations/train2017"),
    )
)
val_dataloader = dict(
    dataset=dict(
        type="mmbeit3.COCOStuffDataset",
        data_root=data_root,
        data_prefix=dict(img_path="images/val2017", seg_map_path="annotations/val2017"),
    )
)
test_dataloader = val_dataloader
