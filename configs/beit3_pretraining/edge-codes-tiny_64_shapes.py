"""The image tokenizer of the trials of images and texts: 512 codes of edges and colors.

Reproduces: nothing published; as edge-codes-tiny_128_shapes, with colors, which captions tell.
Run: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_pretraining/edge-codes-tiny_64_shapes.py
"""

_base_ = "./edge-codes-tiny_128_shapes.py"

# ============ often changed ============
data_root = "data/plain/"

# ============ rarely changed ============
model = dict(teacher=dict(color=0.5), img_size=64, num_codes=512)
train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type="LoadImageFromFile", _scope_="mmbeit3"),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PackImageText"),
        ],
    ),
)
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
