"""Building blocks of Flamingo, and the model they compose into."""

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
    "GatedCrossAttention",
    "GatedCrossAttentionBlock",
    "MediaLayout",
    "PerceiverResampler",
    "TanhGate",
    "available_backends",
    "media_attention",
]
