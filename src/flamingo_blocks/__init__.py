"""Building blocks of Flamingo, and the model they compose into."""

from importlib import import_module
from typing import TYPE_CHECKING

from flamingo_blocks._version import __version__
from flamingo_blocks.lm import MediaState, attach
from flamingo_blocks.nn import (
    FeedForward,
    GatedCrossAttention,
    GatedCrossAttentionBlock,
    PerceiverResampler,
    TanhGate,
)
from flamingo_blocks.ops import MediaLayout, available_backends, media_attention

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo

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


def __getattr__(name: str) -> object:
    """Load the model at its first use: those who import a block wait neither for it nor for data and vision."""
    if name == "Flamingo":
        flamingo: object = import_module("flamingo_blocks.models").Flamingo
        globals()[name] = flamingo
        return flamingo
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
