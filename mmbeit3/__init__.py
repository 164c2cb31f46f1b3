"""BEiT-3 for dense prediction, as an extension of MMDetection and MMSegmentation.

Importing the package is cheap: it only sees to it that ``mmcv.ops`` can be imported when mmcv was
installed without compiled operators. Models load when a config names them (``mmbeit3.<Name>``).
"""

from typing import Any

from mmbeit3.ops.mmcv_ext import install as _install_operators
from mmbeit3.utils.packaged_configs import packaged_configs
from mmbeit3.version import __version__

_install_operators()

__all__ = ["__version__", "accelerate", "packaged_configs"]


def __getattr__(name: str) -> Any:
    if name != "accelerate":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mmbeit3.models.acceleration import accelerate

    return accelerate
