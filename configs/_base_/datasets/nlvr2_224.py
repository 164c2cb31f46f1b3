"""NLVR2 at 224 pixels: train, dev and the public test (test1, test-P in the paper).

data/nlvr2/images/train/N, dev, test1, and data/nlvr2/nlvr, a clone of github.com/lil-lab/nlvr.
"""

_base_ = "./coco_retrieval_384.py"

data_root = "data/nlvr2/"
img_size = 224

# As released: each of the two images is cut and mirrored by itself, and the statement stays, "left"
# and "right" too.
train_pipeline = [
    dict(
        type="ForEachImage",
        transforms=[
            _base_.train_pipeline[0],
            dict(_base_.train_pipeline[1], scale=img_size),
            _base_.train_pipeline[2],
        ],
    ),
    _base_.train_pipeline[3],
]
test_pipeline = [
    dict(
        type="ForEachImage",
        transforms=[
            _base_.test_pipeline[0],
            dict(_base_.test_pipeline[1], scale=(img_size, img_size)),
        ],
    ),
    _base_.test_pipeline[2],
]

nlvr2 = dict(_delete_=True, type="mmbeit3.NLVR2Dataset", data_root=data_root)
train_dataloader = dict(
    batch_size=32,  # on 8 GPUs
    num_workers=10,
    dataset=dict(
        nlvr2,
        ann_file="nlvr/nlvr2/data/train.json",
        data_prefix=dict(img="images/train/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=48,
    num_workers=10,
    dataset=dict(
        nlvr2,
        ann_file="nlvr/nlvr2/data/dev.json",
        data_prefix=dict(img="dev/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=48,
    num_workers=10,
    dataset=dict(
        nlvr2,
        ann_file="nlvr/nlvr2/data/test1.json",
        data_prefix=dict(img="test1/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)

val_evaluator = dict(_delete_=True, type="mmbeit3.NLVR2Metric")
test_evaluator = val_evaluator
