"""Plain torch modules that the models are made of; they know no registry and no config."""

from mmbeit3.models.layers.attention import Attention
from mmbeit3.models.layers.deformable_attention import DeformableAttention, Grid, reference_points
from mmbeit3.models.layers.encoder_layer import FFN, EncoderLayer, init_encoder_layers
from mmbeit3.models.layers.interaction import Extractor, Injector, as_maps, as_tokens
from mmbeit3.models.layers.patch_embed import PatchEmbed
from mmbeit3.models.layers.relative_position import RelativePosition
from mmbeit3.models.layers.spatial_prior import SpatialPrior, init_conv
from mmbeit3.models.layers.token_layout import TokenLayout, window_layout

__all__ = [
    "FFN",
    "Attention",
    "DeformableAttention",
    "EncoderLayer",
    "Extractor",
    "Grid",
    "Injector",
    "PatchEmbed",
    "RelativePosition",
    "SpatialPrior",
    "TokenLayout",
    "as_maps",
    "as_tokens",
    "init_encoder_layers",
    "init_conv",
    "reference_points",
    "window_layout",
]
