"""The trial of retrieval after masked data modeling, on plain pictures.

Reproduces: nothing published; docs/benchmarks.md has what masked data modeling brings.
Run: mmbeit3 make-shapes --plain --size 64 --out data/plain --train 3000 --val 200 --held-out 3
     mmbeit3 train configs/beit3_retrieval/beit3-tiny-retrieval_64_shapes.py
"""

_base_ = "./beit3-tiny-retrieval_128_shapes.py"

# ============ often changed ============
data_root = "data/plain/"

# ============ rarely changed ============
model = dict(
    encoder=dict(img_size=64, patch_size=8),
    data_preprocessor=dict(tokenizer=dict(file=data_root + "captions.spm")),
)
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = val_dataloader
