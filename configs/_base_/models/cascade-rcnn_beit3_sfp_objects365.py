"""The detector of cascade-mask-rcnn_beit3_sfp.py for the boxes of Objects365's 365 classes."""

_base_ = "./cascade-mask-rcnn_beit3_sfp.py"

box_heads = [dict(head, num_classes=365) for head in _base_.box_heads]

model = dict(
    roi_head=dict(bbox_head=box_heads, mask_roi_extractor=None, mask_head=None)  # no masks in it
)
