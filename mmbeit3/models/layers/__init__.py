"""Plain torch modules that the models are made of; they know no registry and no config."""

from mmbeit3.models.layers.attention import Attention
from mmbeit3.models.layers.encoder_layer import FFN, EncoderLayer
from mmbeit3.models.layers.relative_position import RelativePosition
from mmbeit3.models.layers.token_layout import TokenLayout, window_layout

__all__ = [
    "FFN",
    "Attention",
    "EncoderLayer",
    "RelativePosition",
    "TokenLayout",
    "window_layout",
]
