"""Trained models on images: inferencers of each task, runs over folders, and what they write."""

from mmbeit3.inference.classification_task import ClassificationTask
from mmbeit3.inference.detection_task import DetectionTask
from mmbeit3.inference.retrieval_task import RetrievalTask
from mmbeit3.inference.segmentation_task import SegmentationTask
from mmbeit3.inference.task import Task, find_task

__all__ = [
    "ClassificationTask",
    "DetectionTask",
    "RetrievalTask",
    "SegmentationTask",
    "Task",
    "find_task",
]
