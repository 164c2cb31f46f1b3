"""The tiny writer of captions on 26 COCO photographs, one caption each, learned by heart."""

_base_ = [
    "../../configs/_base_/models/beit3_captioning.py",
    "../../configs/_base_/default_runtime_captioning.py",
]

# The photographs at 64 pixels and one caption of each, which the test writes.
data_root = "{{$MMBEIT3_DATA:.}}/"
tokenizer_file = "{{$MMBEIT3_TOKENIZER:beit3.spm}}"
max_iters = 300

model = dict(
    data_preprocessor=dict(tokenizer=dict(file=tokenizer_file)),
    encoder=dict(arch="tiny", img_size=64, drop_path_rate=0.0, with_cp=False),
    drop_worst_ratio=0.0,
    generation=dict(max_length=32, released=False),
    init_cfg=None,
)

dataset = dict(
    type="mmbeit3.CocoCaptionsDataset",
    data_root=data_root,
    ann_file="captions.json",
    data_prefix=dict(img="images/"),
    pipeline=[dict(type="LoadImageFromFile", _scope_="mmbeit3"), dict(type="PackImageText")],
)
train_dataloader = dict(
    batch_size=26,
    num_workers=0,
    sampler=dict(type="mmbeit3.InfiniteSampler", shuffle=True),
    dataset=dataset,
)
val_dataloader = dict(
    batch_size=13,
    num_workers=0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(dataset, test_mode=True),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="mmbeit3.CaptionMetric")
test_evaluator = val_evaluator

train_cfg = dict(type="mmbeit3.TrainLoop", max_iters=max_iters, val_interval=max_iters)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0),
    clip_grad=dict(max_norm=5.0),
    constructor="mmbeit3.LayerDecayConstructor",
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=30),
    dict(type="CosineAnnealingLR", by_epoch=False, begin=30, end=max_iters, eta_min=1e-5),
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=max_iters, max_keep_ckpts=1)
)
randomness = dict(seed=0)
