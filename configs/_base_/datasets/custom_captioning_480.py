"""Images and captions of your own: train.csv and val.csv with the columns image and text.

.tsv and .jsonl are read alike. A single table is split by val_images of all three data sets.
Pipelines and loaders are those of COCO captions.
"""

_base_ = "./coco_captioning_480.py"

data_root = "data/my_images/"

table = dict(
    type="mmbeit3.ImageTextTableDataset",
    data_root=data_root,
    data_prefix=dict(img="images/"),
    image_column="image",
    text_column="text",
)
train_dataloader = dict(
    dataset=dict(table, _delete_=True, ann_file="train.csv", pipeline=_base_.train_pipeline)
)
val_dataloader = dict(
    dataset=dict(
        table, _delete_=True, ann_file="val.csv", test_mode=True, pipeline=_base_.test_pipeline
    ),
)
test_dataloader = dict(val_dataloader)
