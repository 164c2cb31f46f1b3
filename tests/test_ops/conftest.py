"""mmcv.ops can be imported once mmbeit3 is; import sorting would put mmcv first."""

import mmbeit3  # noqa: F401
