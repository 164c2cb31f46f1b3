"""What a training will need, found out from its config."""

from mmbeit3.analysis.advice import advise
from mmbeit3.analysis.memory_plan import MemoryPlan, plan_memory

__all__ = ["MemoryPlan", "advise", "plan_memory"]
