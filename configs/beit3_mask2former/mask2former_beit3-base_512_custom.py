"""BEiT-3 base Mask2Former on your own folders of images and masks.

Reproduces: nothing published; a starting point with the values of the ADE20K config at 512 and a
short schedule.
Copy this file to any folder, edit the lines under "edit these", and run:
    cp configs/beit3_mask2former/mask2former_beit3-base_512_custom.py my_config.py
    python tools/train.py my_config.py
A mask has the path of its image, as an 8-bit PNG: images/train/a/b.jpg and masks/train/a/b.png. Its
pixels are the line numbers of the class file, from 0, and 255 where nothing is known. The classes
are read from that file alone, and every mask is checked before training; example_mask.jpg in the
work dir shows one with the names.
"""

# In the installed package: a copy of this file works in any folder.
_base_ = __import__("mmbeit3").packaged_configs(
    "_base_/models/mask2former_beit3_sfp.py", "_base_/default_runtime_seg.py"
)

# ============ edit these ============
data_root = "data/custom_seg"
train_images, train_masks = "images/train", "masks/train"
val_images, val_masks = "images/val", "masks/val"
classes_file = "classes.txt"  # one class a line; a color may follow: road #804080
# False: value 0 is the first class. True: 0 means unlabeled, and the classes count from 1. None:
# as False, and training asks where the masks leave doubt.
reduce_zero_label = None
crop = 512
batch_size = 4
max_iters = 10000
learning_rate = 3e-5
pretrained = (  # or a file of yours, see docs/checkpoints.md
    "https://github.com/addf400/files/releases/download/beit3/beit3_base_itc_patch16_224.pth"
)

# ============ sometimes changed ============
load_image, load_masks = (
    dict(type="LoadImageFromFile", _scope_="mmbeit3"),
    dict(type="LoadAnnotations"),
)
pack = dict(type="PackSegInputs")
resize = dict(type="Resize", scale=(4 * crop, crop), keep_ratio=True)  # the short side to crop
flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
train_pipeline = [
    load_image,
    load_masks,
    dict(type="RandomResize", scale=(4 * crop, crop), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="mmbeit3.SegRandomCrop", crop_size=(crop, crop), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="mmbeit3.PhotoMetricDistortion"),
    dict(type="mmbeit3.ChannelsFirst"),
    pack,
]
test_pipeline = [load_image, resize, load_masks, pack]
# tools/test.py --tta flip
tta_pipeline_flip = [
    load_image,
    dict(type="TestTimeAug", transforms=[[resize], flips, [load_masks], [pack]]),
]

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dict(
        type="mmbeit3.SegFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path=train_images, seg_map_path=train_masks),
        classes_file=classes_file,
        reduce_zero_label=reduce_zero_label,
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="mmbeit3.SegFolderDataset",
        data_root=data_root,
        data_prefix=dict(img_path=val_images, seg_map_path=val_masks),
        classes_file=classes_file,
        reduce_zero_label=reduce_zero_label,
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.IoUMetric", iou_metrics=["mIoU"])
test_evaluator = val_evaluator

# ============ rarely changed ============
# The number of classes of the head follows the class file.
model = dict(
    data_preprocessor=dict(size=(crop, crop)),
    backbone=dict(init_cfg=dict(checkpoint=pretrained)),
    # Windows move by two thirds of their size, as BEiT's (mmseg configs/beit: 426 of 640).
    test_cfg=dict(mode="slide", crop_size=(crop, crop), stride=(crop * 2 // 3, crop * 2 // 3)),
)
train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters // 10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="mmbeit3.AmpOptimWrapper",
    dtype="bfloat16",
    loss_scale=1.0,
    optimizer=dict(type="AdamW", lr=learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=0.9, flat_decay_mult=0.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=max_iters // 20),
    dict(
        type="PolyLR", power=1.0, eta_min=0.0, by_epoch=False, begin=max_iters // 20, end=max_iters
    ),
]
default_hooks = dict(checkpoint=dict(interval=max_iters // 10))
