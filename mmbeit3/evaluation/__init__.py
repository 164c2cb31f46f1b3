from mmbeit3.evaluation.accuracy_metric import AccuracyMetric
from mmbeit3.evaluation.caption_metric import CaptionMetric
from mmbeit3.evaluation.captions.scores import caption_scores
from mmbeit3.evaluation.coco import evaluate_coco, format_table
from mmbeit3.evaluation.coco_metric import CocoMetric
from mmbeit3.evaluation.code_book_metric import CodeBookMetric
from mmbeit3.evaluation.iou_metric import IoUMetric
from mmbeit3.evaluation.masked_token_metric import MaskedTokenMetric
from mmbeit3.evaluation.nlvr2_metric import NLVR2Metric
from mmbeit3.evaluation.retrieval import retrieval_recall
from mmbeit3.evaluation.retrieval_metric import RetrievalMetric
from mmbeit3.evaluation.vqa import vqa_accuracy
from mmbeit3.evaluation.vqa_metric import VQAMetric

__all__ = [
    "AccuracyMetric",
    "CaptionMetric",
    "CocoMetric",
    "CodeBookMetric",
    "IoUMetric",
    "MaskedTokenMetric",
    "NLVR2Metric",
    "RetrievalMetric",
    "VQAMetric",
    "caption_scores",
    "evaluate_coco",
    "format_table",
    "retrieval_recall",
    "vqa_accuracy",
]
