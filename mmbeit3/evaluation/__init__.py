from mmbeit3.evaluation.coco import evaluate_coco, format_table
from mmbeit3.evaluation.coco_metric import CocoMetric

__all__ = ["CocoMetric", "evaluate_coco", "format_table"]
