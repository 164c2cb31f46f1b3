from mmbeit3.models.task_modules.assigners.max_iou_assigner import MaxIoUAssigner

__all__ = ["MaxIoUAssigner"]
