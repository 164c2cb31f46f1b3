"""Spares starts what the toolboxes import for a few functions that hardly anyone calls.

mmdet imports imgaug (with scipy's statistics and numba) for lanes, and matplotlib for tracks: a
sixth of the time from the start of ``mmbeit3 infer`` to its result. The modules below get a
stand-in, which imports the real package when it is first used. A package that is not installed is
missed as ever, and whoever else imports these packages is not concerned.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from mmbeit3.utils.import_contexts import Context, import_within

# In which modules, and the packages that their functions alone need.
MODULES = {
    "mmdet.datasets.transforms.generate_line": ("imgaug", "scipy"),
    "mmdet.datasets.transforms.transforms": ("imagecorruptions",),
    "mmdet.evaluation.metrics.crowdhuman_metric": ("scipy",),
    "mmdet.evaluation.metrics.culane_metric": ("scipy",),
    "mmdet.models.dense_heads.clr_head.clr_head": ("matplotlib",),
    "mmdet.models.dense_heads.clr_head.lane": ("scipy",),
    "mmdet.models.layers.transformer.deformable_detr_layers": ("fairscale",),
    "mmdet.models.layers.transformer.detr_layers": ("fairscale",),
    "mmdet.models.layers.transformer.grounding_dino_layers": ("fairscale",),
    "mmdet.models.task_modules.assigners.hungarian_assigner": ("scipy",),
    "mmdet.models.task_modules.assigners.topk_hungarian_assigner": ("scipy",),
    "mmdet.models.task_modules.tracking.aflink": ("scipy",),
    "mmdet.models.task_modules.tracking.kalman_filter": ("scipy",),
    "mmdet.models.trackers.sort_tracker": ("scipy",),
    "mmdet.utils.mot_error_visualize": ("matplotlib",),
    "mmdet.visualization.local_visualizer": ("matplotlib",),
    "mmseg.datasets.transforms.transforms": ("scipy",),
    "mmseg.models.assigners.hungarian_assigner": ("scipy",),
    "mmseg.models.backbones.beit": ("scipy",),
    "mmseg.models.losses.huasdorff_distance_loss": ("scipy",),
}


class _Late:
    """A module, or one of its attributes, that is imported when it is used."""

    def __init__(self, path: str, importer: _Importer) -> None:
        self._path, self._importer = path, importer

    def _real(self) -> Any:
        return resolve_name(self._path)

    def __getattr__(self, name: str) -> Any:
        if self._importer.is_importing and not name.startswith("__"):
            return _Late(f"{self._path}.{name}", self._importer)
        return getattr(self._real(), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._real()(*args, **kwargs)

    def __instancecheck__(self, instance: object) -> bool:
        return isinstance(instance, self._real())

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._real(),)


class _Importer:
    """The ``import`` statement of one module; of its functions it is Python's own."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._packages = packages
        self.is_importing = True

    def __call__(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        package = name.partition(".")[0]
        late = self.is_importing and not level and package in self._packages
        if late and find_spec(package) is not None:
            return _Late(name if fromlist else package, self)
        return builtins.__import__(name, globals, locals, fromlist or (), level)


@contextmanager
def _with_stand_ins(module: ModuleType) -> Iterator[None]:
    importer = _Importer(MODULES[module.__name__])
    # Python asks the builtins of a module's own for what `import` does in it.
    vars(module)["__builtins__"] = {**vars(builtins), "__import__": importer}
    try:
        yield
    finally:
        importer.is_importing = False


def _choose(name: str) -> Context | None:
    return _with_stand_ins if name in MODULES else None


def install() -> None:
    """See to it that these modules import late from now on."""
    import_within(_choose)
