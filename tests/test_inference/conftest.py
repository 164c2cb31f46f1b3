from tests.color_models import (  # noqa: F401
    color_cfg,
    color_checkpoint,
    seg_cfg,
    seg_checkpoint,
)
