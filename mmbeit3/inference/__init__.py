"""Trained models on images: inferencers of each task, runs over folders, and what they write."""

from mmbeit3.inference.captioning_task import CaptioningTask
from mmbeit3.inference.classification_task import ClassificationTask
from mmbeit3.inference.detection_task import DetectionTask
from mmbeit3.inference.nlvr2_task import NLVR2Task
from mmbeit3.inference.pretraining_task import PretrainingTask
from mmbeit3.inference.retrieval_task import RetrievalTask
from mmbeit3.inference.segmentation_task import SegmentationTask
from mmbeit3.inference.task import Task, find_task
from mmbeit3.inference.vqa_task import VQATask

__all__ = [
    "CaptioningTask",
    "ClassificationTask",
    "DetectionTask",
    "NLVR2Task",
    "PretrainingTask",
    "RetrievalTask",
    "SegmentationTask",
    "Task",
    "VQATask",
    "find_task",
]
