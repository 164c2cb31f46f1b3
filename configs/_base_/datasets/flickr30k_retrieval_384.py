"""Flickr30k by Karpathy's splits: 29,000 images to train, 1,014 to validate, 1,000 to test.

data/flickr30k/flickr30k-images and dataset_flickr30k.json (from Karpathy's caption_datasets.zip).
Pipelines and loaders are those of COCO.
"""

_base_ = "./coco_retrieval_384.py"

data_root = "data/flickr30k/"

flickr30k = dict(
    data_root=data_root,
    ann_file="dataset_flickr30k.json",
    data_prefix=dict(img="flickr30k-images/"),
)
train_dataloader = dict(dataset=flickr30k)
val_dataloader = dict(dataset=flickr30k)
test_dataloader = dict(dataset=flickr30k)

val_evaluator = dict(_delete_=True, type="mmbeit3.RetrievalMetric")
test_evaluator = val_evaluator
