"""Statements about two images of the generated trial data; half of each sentence's are true.

Data: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
"""

_base_ = "./shapes_retrieval.py"

data_root = "data/plain/"

pipeline = [
    dict(type="ForEachImage", transforms=[_base_.train_pipeline[0]]),
    dict(type="PackImageText"),
]
dataset = dict(
    type="mmbeit3.NLVR2TableDataset",
    data_root=data_root,
    text_column="sentence",
    pipeline=pipeline,
)
train_dataloader = dict(
    batch_size=32,  # of two images each
    dataset=dict(
        dataset,
        _delete_=True,
        ann_file="annotations/statements_train.jsonl",
        data_prefix=dict(img="train/"),
    ),
)
val_dataloader = dict(
    dataset=dict(
        dataset,
        _delete_=True,
        ann_file="annotations/statements_val.jsonl",
        data_prefix=dict(img="val/"),
        test_mode=True,
    )
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="mmbeit3.NLVR2Metric")
test_evaluator = val_evaluator
