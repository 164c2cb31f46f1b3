"""The training engine: mmengine's, with what this project needs beside it."""

from mmbeit3.engine.checkpoint_hook import CheckpointHook, find_checkpoint
from mmbeit3.engine.classes_hook import ClassesHook
from mmbeit3.engine.data_order import InfiniteSampler
from mmbeit3.engine.early_stopping import EarlyStoppingHook
from mmbeit3.engine.ema import EMAHook
from mmbeit3.engine.interruption import Terminated
from mmbeit3.engine.layer_decay import LayerDecayConstructor
from mmbeit3.engine.log_processor import LogProcessor
from mmbeit3.engine.optim_wrapper import AmpOptimWrapper
from mmbeit3.engine.runner import Runner, build_runner
from mmbeit3.engine.sharding import FullySharded
from mmbeit3.engine.train_loop import TrainLoop
from mmbeit3.engine.validation_loss import ValidationLossHook

__all__ = [
    "AmpOptimWrapper",
    "CheckpointHook",
    "ClassesHook",
    "EMAHook",
    "EarlyStoppingHook",
    "FullySharded",
    "InfiniteSampler",
    "LayerDecayConstructor",
    "LogProcessor",
    "Runner",
    "Terminated",
    "TrainLoop",
    "ValidationLossHook",
    "build_runner",
    "find_checkpoint",
]
