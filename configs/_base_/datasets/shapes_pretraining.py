"""Generated scenes without labels, sentences, and scenes with sentences.

Data: mmbeit3 make-shapes --out data/shapes_pretraining --train 10000 --val 200 --seed 1
The seed is another than that of data/shapes, so that no scene is in both.
"""

data_root = "data/shapes_pretraining/"
img_size = 128

image_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="RandomResizedCrop", scale=img_size, crop_ratio_range=(0.5, 1.0)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackImageText"),
]
pair_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="PackImageText"),  # no crop and no flip: sentences name sides and count objects
]
images = dict(
    type="mmbeit3.ImagesDataset",
    data_root=data_root,
    data_prefix=dict(img_path="train"),
    pipeline=image_pipeline,
)
val_images = dict(images, data_prefix=dict(img_path="val"), pipeline=pair_pipeline)
val_captions = dict(
    type="mmbeit3.CocoCaptionsDataset",
    data_root=data_root,
    ann_file="annotations/captions_val.json",
    data_prefix=dict(img="val/"),
)
train_dataloader = dict(
    batch_size=16,
    num_workers=0,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.PretrainingDataset",
        datasets=dict(
            images=images,
            texts=dict(
                type="mmbeit3.TextLinesDataset",
                files=["annotations/captions_train.txt"],
                data_root=data_root,
                pipeline=[dict(type="PackImageText")],
            ),
            pairs=dict(
                type="mmbeit3.CocoCaptionsDataset",
                data_root=data_root,
                ann_file="annotations/captions_train.json",
                data_prefix=dict(img="train/"),
                pipeline=pair_pipeline,
            ),
        ),
    ),
)
val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="mmbeit3.collate_parts"),
    dataset=dict(
        type="mmbeit3.PretrainingDataset",
        test_mode=True,
        datasets=dict(
            images=val_images,
            texts=dict(val_captions, pipeline=[dict(type="PackImageText")]),  # without their images
            pairs=dict(val_captions, pipeline=pair_pipeline),
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.MaskedTokenMetric")
test_evaluator = val_evaluator
