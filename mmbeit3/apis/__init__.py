"""What commands and notebooks call; each function is imported when it is first asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbeit3.apis.converting import convert_checkpoint
    from mmbeit3.apis.data_report import report_coco, report_config
    from mmbeit3.apis.label_conversion import convert_labels
    from mmbeit3.apis.pretraining import pretrain
    from mmbeit3.apis.publishing import publish_to_hub, write_repository
    from mmbeit3.apis.testing import test
    from mmbeit3.apis.training import train
    from mmbeit3.config.loading import load_config
    from mmbeit3.inference.folder import infer_folder

__all__ = [
    "convert_checkpoint",
    "convert_labels",
    "infer_folder",
    "load_config",
    "pretrain",
    "publish_to_hub",
    "report_coco",
    "report_config",
    "test",
    "train",
    "write_repository",
]

# A command's --help must not wait for torch.
_HOMES = {
    "convert_checkpoint": "apis.converting",
    "convert_labels": "apis.label_conversion",
    "infer_folder": "inference.folder",
    "load_config": "config.loading",
    "pretrain": "apis.pretraining",
    "publish_to_hub": "apis.publishing",
    "report_coco": "apis.data_report",
    "report_config": "apis.data_report",
    "test": "apis.testing",
    "train": "apis.training",
    "write_repository": "apis.publishing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"mmbeit3.{_HOMES[name]}"), name)
