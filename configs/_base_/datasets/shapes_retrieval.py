"""Captions of the generated trial data, with combinations that training does not see.

Data: mmbeit3 make-shapes --out data/shapes_captions --train 3000 --val 200 --held-out 3
Each sentence of the evaluation is true of one image of it only, so that no right answer counts as
wrong.
"""

data_root = "data/shapes_captions/"

train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="PackImageText"),  # no crop and no flip: sentences name sides and count objects
]
test_pipeline = train_pipeline

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.CocoCaptionsDataset",
        data_root=data_root,
        ann_file="annotations/captions_train.json",
        data_prefix=dict(img="train/"),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.CocoCaptionsDataset",
        data_root=data_root,
        ann_file="annotations/captions_val_unique.json",
        data_prefix=dict(img="val/"),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmbeit3.RetrievalMetric")
test_evaluator = val_evaluator
