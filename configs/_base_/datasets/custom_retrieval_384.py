"""Images and texts of your own: train.csv and val.csv with the columns image and text.

.tsv and .jsonl are read alike. For captions in COCO's format replace the data sets' type by
mmbeit3.CocoCaptionsDataset and leave the columns out. Pipelines and loaders are those of COCO.
"""

_base_ = "./coco_retrieval_384.py"

data_root = "data/my_images/"

table = dict(
    type="mmbeit3.ImageTextTableDataset",
    data_root=data_root,
    data_prefix=dict(img="images/"),
    image_column="image",
    text_column="text",
)
train_dataloader = dict(
    batch_size=32,
    dataset=dict(table, _delete_=True, ann_file="train.csv", pipeline=_base_.train_pipeline),
)
val_dataloader = dict(
    batch_size=32,
    dataset=dict(
        table, _delete_=True, ann_file="val.csv", test_mode=True, pipeline=_base_.test_pipeline
    ),
)
test_dataloader = dict(val_dataloader, persistent_workers=True)

val_evaluator = dict(_delete_=True, type="mmbeit3.RetrievalMetric")
test_evaluator = val_evaluator
