"""The training engine: mmengine's, with what this project needs beside it."""

from mmbeit3.engine.layer_decay import LayerDecayConstructor
from mmbeit3.engine.runner import Runner, build_runner

__all__ = ["LayerDecayConstructor", "Runner", "build_runner"]
