"""Images and texts of your own: train.csv and val.csv with the columns image and text.

.tsv and .jsonl are read alike. For captions in COCO's format replace the data sets' type by
mmbeit3.CocoCaptionsDataset and leave the columns out.
"""

data_root = "data/my_images/"
img_size = 384

# As released: Pillow's bicubic interpolation, with antialiasing; a mirrored image keeps its text.
train_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="RandomResizedCrop", scale=img_size, crop_ratio_range=(0.5, 1.0)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackImageText"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(
        type="Resize",
        scale=(img_size, img_size),
        keep_ratio=False,
        interpolation="bicubic",
        backend="pillow",
    ),
    dict(type="PackImageText"),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.ImageTextTableDataset",
        data_root=data_root,
        ann_file="train.csv",
        data_prefix=dict(img="images/"),
        image_column="image",
        text_column="text",
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.ImageTextTableDataset",
        data_root=data_root,
        ann_file="val.csv",
        data_prefix=dict(img="images/"),
        image_column="image",
        text_column="text",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type="mmbeit3.RetrievalMetric")
test_evaluator = val_evaluator
