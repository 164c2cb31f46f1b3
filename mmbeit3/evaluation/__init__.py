from mmbeit3.evaluation.coco import evaluate_coco, format_table
from mmbeit3.evaluation.coco_metric import CocoMetric
from mmbeit3.evaluation.iou_metric import IoUMetric

__all__ = ["CocoMetric", "IoUMetric", "evaluate_coco", "format_table"]
