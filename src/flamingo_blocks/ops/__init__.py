"""Functions on tensors, without parameters: the media layout, attention over it, and the loss."""

from flamingo_blocks.ops.attention import available_backends, media_attention
from flamingo_blocks.ops.attention_plan import AttentionPlan
from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy
from flamingo_blocks.ops.media_layout import MediaLayout

__all__ = ["AttentionPlan", "MediaLayout", "available_backends", "linear_cross_entropy", "media_attention"]
