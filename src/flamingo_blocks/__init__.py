"""Building blocks of Flamingo, and the model they compose into."""

from flamingo_blocks.lm import MediaState, attach
from flamingo_blocks.models import Flamingo
from flamingo_blocks.nn import (
    FeedForward,
    GatedCrossAttention,
    GatedCrossAttentionBlock,
    PerceiverResampler,
    TanhGate,
)
from flamingo_blocks.ops import MediaLayout, available_backends, media_attention

__all__ = [
    "FeedForward",
    "Flamingo",
    "GatedCrossAttention",
    "GatedCrossAttentionBlock",
    "MediaLayout",
    "MediaState",
    "PerceiverResampler",
    "TanhGate",
    "attach",
    "available_backends",
    "media_attention",
]
