from mmbeit3.models.task_modules.assigners import MaxIoUAssigner
from mmbeit3.models.task_modules.coders import DeltaXYWHBBoxCoder

__all__ = ["DeltaXYWHBBoxCoder", "MaxIoUAssigner"]
