"""Questions of the generated trial data, in VQAv2's format; answers are balanced.

Data: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
"""

_base_ = "./shapes_retrieval.py"

data_root = "data/plain/"

dataset = dict(
    type="mmbeit3.VQAv2Dataset",
    data_root=data_root,
    answers="annotations/answer_list.txt",
    pipeline=_base_.train_pipeline,
)
train_dataloader = dict(
    dataset=dict(
        dataset,
        _delete_=True,
        questions="annotations/questions_train.json",
        annotations="annotations/answers_train.json",
        data_prefix=dict(img="train/"),
    )
)
val_dataloader = dict(
    batch_size=100,
    dataset=dict(
        dataset,
        _delete_=True,
        questions="annotations/questions_val.json",
        annotations="annotations/answers_val.json",
        data_prefix=dict(img="val/"),
        test_mode=True,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(_delete_=True, type="mmbeit3.VQAMetric")
test_evaluator = val_evaluator
