"""Functions on tensors, without parameters: the media layout, and attention over it."""

from flamingo_blocks.ops.attention import available_backends, media_attention
from flamingo_blocks.ops.attention_plan import AttentionPlan
from flamingo_blocks.ops.media_layout import MediaLayout

__all__ = ["AttentionPlan", "MediaLayout", "available_backends", "media_attention"]
