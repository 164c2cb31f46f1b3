"""What a test writes beside its metrics: where it is until the end, and for which images."""

from __future__ import annotations

from contextlib import ExitStack
from os import path as osp
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

from mmbeit3.config.datasets import innermost_datasets
from mmbeit3.inference.inferencer import image_loader_of
from mmbeit3.inference.staging import staged, staged_files
from mmbeit3.utils.collective import broadcast_from_rank0
from mmbeit3.utils.whole_files import make_folder

PICKLE_SUFFIXES = (".pkl", ".pickle")


class EvaluationOutputs:
    """Where files are written until the end of a stack, by the first process for all.

    Args:
        cfg (Config): The config of the test.
        stack (ExitStack): Puts the files into their places.
    """

    def __init__(self, cfg: Config, stack: ExitStack) -> None:
        self._cfg = cfg
        self._stack = stack
        self._folders: dict[Path, str] = {}

    def folder(self, place: str | Path, option: str) -> str:
        """Where the files of a folder are written."""
        real = Path(osp.realpath(place))
        if real not in self._folders:
            kept = staged(Path(place), "a test", option)
            self._folders[real] = broadcast_from_rank0(lambda: str(self._stack.enter_context(kept)))
        return self._folders[real]

    def file(self, place: Path) -> str:
        """Where a file, or several that begin with its name, is written."""
        return broadcast_from_rank0(lambda: str(self._stack.enter_context(staged_files(place))))

    @property
    def image_root(self) -> str:
        """str: The folder that holds the images of all test sets."""
        folders = []
        for _, dataset in innermost_datasets(self._cfg.test_dataloader.dataset):
            prefix = dataset.get("data_prefix") or {}
            folder = prefix.get("img_path") or prefix.get("img") or ""
            folders.append(osp.abspath(osp.join(dataset.get("data_root") or "", folder)))
        return osp.commonpath(folders)

    def drawing_options(self, show_dir: Path) -> dict[str, Any]:
        """Options of a :class:`mmbeit3.visualization.drawing_hook.DrawingHook`."""
        make_folder(show_dir)
        return dict(
            show_dir=show_dir,
            loader=image_loader_of(self._cfg),
            image_root=self.image_root,
            staging_dir=self.folder(show_dir, "show_dir"),
        )


def evaluators(cfg: Config) -> list[ConfigDict]:
    """The metrics of a config's test."""
    found = cfg.test_evaluator
    return list(found) if isinstance(found, (list, tuple)) else [found]
