"""Child registries of mmengine, one for each kind of thing the project adds.

A config reaches a type as ``mmbeit3.<Name>`` under any default scope: mmengine imports this module
for the prefix, and the ``locations`` on first use.
"""

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import FUNCTIONS as MMENGINE_FUNCTIONS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOG_PROCESSORS as MMENGINE_LOG_PROCESSORS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODEL_WRAPPERS as MMENGINE_MODEL_WRAPPERS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
)
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import OPTIMIZERS as MMENGINE_OPTIMIZERS
from mmengine.registry import PARAM_SCHEDULERS as MMENGINE_PARAM_SCHEDULERS
from mmengine.registry import RUNNERS as MMENGINE_RUNNERS
from mmengine.registry import TASK_UTILS as MMENGINE_TASK_UTILS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import VISBACKENDS as MMENGINE_VISBACKENDS
from mmengine.registry import VISUALIZERS as MMENGINE_VISUALIZERS
from mmengine.registry import Registry

MODELS = Registry("model", parent=MMENGINE_MODELS, locations=["mmbeit3.models"])
MODEL_WRAPPERS = Registry(
    "model wrapper", parent=MMENGINE_MODEL_WRAPPERS, locations=["mmbeit3.engine"]
)
TASK_UTILS = Registry("task util", parent=MMENGINE_TASK_UTILS, locations=["mmbeit3.models"])
DATASETS = Registry("dataset", parent=MMENGINE_DATASETS, locations=["mmbeit3.datasets"])
TRANSFORMS = Registry(
    "transform", parent=MMENGINE_TRANSFORMS, locations=["mmbeit3.datasets.transforms"]
)
FUNCTIONS = Registry("function", parent=MMENGINE_FUNCTIONS, locations=["mmbeit3.datasets"])
METRICS = Registry("metric", parent=MMENGINE_METRICS, locations=["mmbeit3.evaluation"])
HOOKS = Registry("hook", parent=MMENGINE_HOOKS, locations=["mmbeit3.engine"])
TASKS = Registry("task", scope="mmbeit3", locations=["mmbeit3.inference"])
RUNNERS = Registry("runner", parent=MMENGINE_RUNNERS, locations=["mmbeit3.engine"])
LOG_PROCESSORS = Registry(
    "log processor", parent=MMENGINE_LOG_PROCESSORS, locations=["mmbeit3.engine"]
)
LOOPS = Registry("loop", parent=MMENGINE_LOOPS, locations=["mmbeit3.engine"])
DATA_SAMPLERS = Registry(
    "data sampler", parent=MMENGINE_DATA_SAMPLERS, locations=["mmbeit3.engine"]
)
OPTIM_WRAPPERS = Registry(
    "optim_wrapper", parent=MMENGINE_OPTIM_WRAPPERS, locations=["mmbeit3.engine"]
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    locations=["mmbeit3.engine"],
)
VISUALIZERS = Registry(
    "visualizer", parent=MMENGINE_VISUALIZERS, locations=["mmbeit3.visualization.visualizer"]
)
# Without types of our own: default_scope="mmbeit3" finds mmengine's there without a warning.
_here = ["mmbeit3.registry"]
OPTIMIZERS = Registry("optimizer", parent=MMENGINE_OPTIMIZERS, locations=_here)
PARAM_SCHEDULERS = Registry(
    "parameter scheduler", parent=MMENGINE_PARAM_SCHEDULERS, locations=_here
)
VISBACKENDS = Registry("vis_backend", parent=MMENGINE_VISBACKENDS, locations=_here)
