"""Statements of your own: train.csv and val.csv with the columns left, right, text and label.

.tsv and .jsonl are read alike; a label is True or False. Pipelines and loaders are those of NLVR2.
"""

_base_ = "./nlvr2_224.py"

data_root = "data/my_statements/"

table = dict(
    type="mmbeit3.NLVR2TableDataset",
    data_root=data_root,
    data_prefix=dict(img="images/"),
    left_column="left",
    right_column="right",
    text_column="text",
    label_column="label",
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
