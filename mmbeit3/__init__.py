"""BEiT-3 for dense prediction, as an extension of MMDetection and MMSegmentation.

    from mmbeit3 import load

    model = load("config.py", "weights.pth")
    result = model("street.jpg")

Importing the package is cheap: it only sees to it that ``mmcv.ops`` can be imported when mmcv was
installed without compiled operators, that mmengine finds the package's configs by name, that the
toolboxes print nothing when they are imported, and that threads that wait soon leave their core.
Models load when a config names them (``mmbeit3.<Name>``), and ``load`` and ``accelerate`` on first
use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmbeit3.ops.mmcv_ext import install as _install_operators
from mmbeit3.utils.cores import settle_threads as _settle_threads
from mmbeit3.utils.late_imports import install as _install_late_imports
from mmbeit3.utils.mmengine_hub import install as _install_hub
from mmbeit3.utils.packaged_configs import packaged_configs
from mmbeit3.utils.quiet_imports import install as _install_quiet_imports
from mmbeit3.utils.uncollected_imports import install as _install_uncollected_imports
from mmbeit3.version import __version__

_settle_threads()  # torch reads it when it is loaded, which nothing here does
_install_operators()
_install_hub()
_install_quiet_imports()
_install_late_imports()
_install_uncollected_imports()

if TYPE_CHECKING:
    from mmbeit3.inference.loading import load
    from mmbeit3.models.acceleration import accelerate

__all__ = ["__version__", "accelerate", "load", "packaged_configs"]


def __getattr__(name: str) -> Any:
    if name == "accelerate":
        from mmbeit3.models.acceleration import accelerate

        return accelerate
    if name == "load":
        from mmbeit3.inference.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
