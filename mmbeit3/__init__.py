"""BEiT-3 for dense prediction, as an extension of MMDetection and MMSegmentation.

Importing the package is cheap: it only sees to it that ``mmcv.ops`` can be imported when mmcv was
installed without compiled operators. Models load when a config names them (``mmbeit3.<Name>``).
"""

from mmbeit3.ops.mmcv_ext import install as _install_operators
from mmbeit3.utils.packaged_configs import packaged_configs
from mmbeit3.version import __version__

_install_operators()

__all__ = ["__version__", "packaged_configs"]
