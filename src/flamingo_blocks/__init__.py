"""Building blocks of Flamingo, and the model they compose into."""

from flamingo_blocks._version import __version__
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
    "__version__",
    "attach",
    "available_backends",
    "media_attention",
]
