"""A small checkpoint of another implementation, to try things on; nothing is downloaded."""

from typing import Any

import torch
from torch import Tensor

from flamingo_blocks.interop.export import export_foreign
from flamingo_blocks.models import Flamingo, PaperLanguageModel
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler


def tiny_open_flamingo(*, vocab_size: int = 32, dim: int = 16, depth: int = 2, every: int = 2) -> dict[str, Tensor]:
    """The tensors that open_flamingo would save of a tiny model with random weights.

    Args:
        vocab_size: Entries of the language model's table; two new rows follow.
        dim: Width of the language model.
        depth: Its layers.
        every: A block before each layer `i` with `(i + 1) % every == 0`.

    Returns:
        Tensors by name.

    Example:
        >>> tiny_open_flamingo()["lang_encoder.layers.1.gated_cross_attn_layer.attn_gate"].shape
        torch.Size([1])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        lm = PaperLanguageModel(vocab_size=vocab_size, dim=dim, depth=depth, num_heads=2)
        options: dict[str, Any] = {"num_heads": 8, "head_dim": 64, "activation": "gelu"}
        flamingo = Flamingo(
            lm=lm,
            resampler=PerceiverResampler(
                vision_dim=8, dim=8, num_latents=4, depth=1, max_frames=0, final_norm=True, **options
            ),
            blocks={
                layer: GatedCrossAttentionBlock(dim, vision_dim=8, media_norm=False, **options)
                for layer in range(every - 1, depth, every)
            },
            media_token_id=vocab_size + 1,
            end_token_id=vocab_size,
            num_new_tokens=2,
        )
    return export_foreign(flamingo, family="open_flamingo")
