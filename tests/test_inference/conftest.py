from tests.colour_models import (  # noqa: F401
    colour_cfg,
    colour_checkpoint,
    seg_cfg,
    seg_checkpoint,
)
