"""Images, texts and pairs of your own, at 224 pixels.

data/pretraining/images/: images in any folders; texts/*.txt, named below: a text a line;
pairs.jsonl: {"image": path below images/, "text": ...} a line. For captions in COCO's format or by
Karpathy's splits replace the type of the pairs by mmbeit3.CocoCaptionsDataset or KarpathyDataset.
"""

data_root = "data/pretraining/"
img_size = 224
num_aside = 500  # images, and images with texts, that are kept for validation

# Crop, flip and color jitter of the paper (appendix B); the share of the crop's area as BEiT v2.
pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="TimmAugment", scale=img_size, crop_area=(0.2, 1.0), color_jitter=0.4),
    dict(type="PackImageText"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="ResizeCenterCrop", scale=img_size),
    dict(type="PackImageText"),
]
images = dict(
    type="mmbeit3.ImagesDataset",
    data_root=data_root,
    data_prefix=dict(img_path="images"),
    skip_unreadable=True,
    val_images=num_aside,
)
pairs = dict(
    type="mmbeit3.ImageTextTableDataset",
    data_root=data_root,
    ann_file="pairs.jsonl",
    data_prefix=dict(img="images/"),
    val_images=num_aside,
)
train_dataloader = dict(
    batch_size=64,  # images, as many texts and as many pairs, on each GPU
    num_workers=8,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.PretrainingDataset",
        datasets=dict(
            images=dict(images, pipeline=pipeline),
            texts=dict(
                type="mmbeit3.TextLinesDataset",
                data_root=data_root,
                files=["texts/train.txt"],
                pack=256,  # bytes: about 64 tokens of English
                pipeline=[dict(type="PackImageText")],
            ),
            pairs=dict(pairs, pipeline=pipeline),
        ),
    ),
)
val_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="mmbeit3.collate_parts"),
    dataset=dict(
        type="mmbeit3.PretrainingDataset",
        test_mode=True,
        datasets=dict(
            images=dict(images, test_mode=True, pipeline=test_pipeline),
            pairs=dict(pairs, test_mode=True, pipeline=test_pipeline),
        ),
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.MaskedTokenMetric")
test_evaluator = val_evaluator
