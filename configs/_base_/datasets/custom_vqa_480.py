"""Questions of your own: train.csv and val.csv with the columns image, question and answer.

.tsv and .jsonl are read alike. The answers of train.csv are those that the model can give.
Pipelines and loaders are those of VQAv2.
"""

_base_ = "./vqav2_480.py"

data_root = "data/my_questions/"

table = dict(
    type="mmbeit3.VQATableDataset",
    data_root=data_root,
    data_prefix=dict(img="images/"),
    image_column="image",
    question_column="question",
    answer_column="answer",
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
