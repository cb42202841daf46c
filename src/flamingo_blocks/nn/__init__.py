"""The trained blocks: Perceiver Resampler, gated cross-attention, and their parts."""

from flamingo_blocks.nn.feed_forward import FeedForward
from flamingo_blocks.nn.gated_cross_attention import GatedCrossAttention, GatedCrossAttentionBlock
from flamingo_blocks.nn.media_kv import MediaKV
from flamingo_blocks.nn.perceiver_resampler import PerceiverResampler
from flamingo_blocks.nn.presets import block_preset, preset_layers, resampler_preset
from flamingo_blocks.nn.tanh_gate import TanhGate, closed_gates

__all__ = [
    "FeedForward", "GatedCrossAttention", "GatedCrossAttentionBlock", "MediaKV", "PerceiverResampler", "TanhGate",
    "block_preset", "closed_gates", "preset_layers", "resampler_preset",
]  # fmt: skip
