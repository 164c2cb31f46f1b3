"""Parameters, gradients and optimizer states divided over the processes, by torch's fully_shard.

Checkpoints stay whole: they hold every tensor in full under the names of the plain model, so that a
training may be resumed with another number of devices, sharded or not, and tested on one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from mmengine.dist import broadcast, get_world_size
from mmengine.hooks import Hook
from torch import Tensor, nn

from mmbeit3.checkpoint.sharded import shard_as
from mmbeit3.registry import MODEL_WRAPPERS
from mmbeit3.utils import InputError
from mmbeit3.utils.towers import find_layers


@MODEL_WRAPPERS.register_module()
class FullySharded:
    """Divides a model, in a config: ``model_wrapper_cfg=dict(type="mmbeit3.FullySharded")``.

    Each layer of the backbone is gathered when it runs, and the rest (pyramid, heads) for the whole
    step; each process keeps 1 / processes of every parameter, its gradient and the optimizer's
    states. Calling the class returns the model itself, whose parameters have become ``DTensor``.

    Args:
        module (nn.Module): A detector or segmentor with a backbone that has ``repeated_layers``,
            initialized alike in every process.

    Raises:
        InputError: The backbone has no layers to divide by, layers share parameters, or this torch
            has no ``fully_shard``.
    """

    def __new__(cls, module: nn.Module) -> nn.Module:
        """Divide the model and return it."""
        try:
            from torch.distributed.fsdp import fully_shard
        except ImportError as error:
            raise InputError(
                f"mmbeit3.FullySharded needs torch 2.6 or newer, this is {torch.__version__}"
            ) from error
        from torch.distributed.device_mesh import init_device_mesh

        layers = find_layers(module)
        if not layers:
            raise InputError(
                "mmbeit3.FullySharded divides a model by the layers of its backbone; "
                f"{type(module).__name__} has no backbone with repeated_layers"
            )
        owners = Counter(id(p) for layer in layers.values() for p in layer.parameters())
        if any(number > 1 for number in owners.values()):
            raise InputError(
                "mmbeit3.FullySharded divides each parameter with one layer, and layers of "
                f"{type(module).__name__} share some (attention='shared' of the encoder): leave "
                "model_wrapper_cfg out"
            )
        for tensor in (*module.parameters(), *module.buffers()):
            broadcast(tensor.data)
        device = next(module.parameters()).device.type
        mesh = init_device_mesh(device, (get_world_size(),))
        for layer in layers.values():
            fully_shard(layer, mesh=mesh)
        return fully_shard(module, mesh=mesh)


class GatheringHook(Hook):
    """Keeps a sharded model whole while it is validated.

    Processes may run the backbone a different number of times, as sliding windows depend on the
    size of an image, and gathering layer by layer would then wait for ever.
    """

    priority = "VERY_LOW"  # after the averaged weights have been put in

    def before_val_epoch(self, runner: Any) -> None:
        """Gather the parameters."""
        gather(runner.model)

    def after_val_epoch(self, runner: Any, metrics: dict | None = None) -> None:
        """Divide them again."""
        divide(runner.model)

    def before_test_epoch(self, runner: Any) -> None:
        """Gather the parameters."""
        gather(runner.model)


def gather(model: nn.Module) -> None:
    """Hold all parameters of a sharded model in every process."""
    for module in _shards(model):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def divide(model: nn.Module) -> None:
    """Take a gathered model's parameters apart again; nothing happens to one that is not."""
    for module in _shards(model):
        module.reshard()
        module.set_reshard_after_forward(module is not model, recurse=False)


def shard_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Divide, in place, the whole states of a checkpoint as the optimizer's parameters are."""
    params = [param for group in optimizer.param_groups for param in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    for number, param in zip(numbers, params, strict=True):
        for name, value in state["state"].get(number, {}).items():
            if isinstance(value, Tensor):
                state["state"][number][name] = shard_as(value, param)


def _shards(model: nn.Module) -> list[nn.Module]:
    return [module for module in model.modules() if hasattr(module, "set_reshard_after_forward")]
