"""Media attention: one function, several backends with equal results."""

from flamingo_blocks.ops.attention.dispatch import available_backends, media_attention

__all__ = ["available_backends", "media_attention"]
