"""NoCaps: trained on COCO's captions, validated and tested on the 4,500 images of NoCaps' val.

data/coco as in coco_captioning_480.py, data/nocaps/nocaps_val_4500_captions.json and the images,
which are Open Images', in data/nocaps/val.
"""

_base_ = "./coco_captioning_480.py"

nocaps = dict(
    _delete_=True,
    type="mmbeit3.CocoCaptionsDataset",
    data_root="data/nocaps/",
    ann_file="nocaps_val_4500_captions.json",
    data_prefix=dict(img="val/"),
    test_mode=True,
    pipeline=_base_.test_pipeline,
)
val_dataloader = dict(dataset=nocaps)
test_dataloader = dict(dataset=nocaps)
