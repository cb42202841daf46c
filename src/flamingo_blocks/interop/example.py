"""A small checkpoint of another implementation, to try things on; nothing is downloaded."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.interop.export import export_foreign
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.lm.token_rows import find_pair
from flamingo_blocks.models import Flamingo, PaperLanguageModel
from flamingo_blocks.nn import GatedCrossAttentionBlock, PerceiverResampler


def tiny_open_flamingo(
    *,
    lm: nn.Module | None = None,
    vocab_size: int = 32,
    dim: int = 16,
    depth: int = 2,
    every: int = 2,
    vision_dim: int = 8,
) -> dict[str, Tensor]:
    """The tensors that open_flamingo would save of a tiny model with random weights.

    Args:
        lm: The language model it is made around, which stays as it is; a `PaperLanguageModel` of the next three sizes
            by default.
        vocab_size: Entries of that one's table; two new rows follow.
        dim: Its width.
        depth: Its layers.
        every: A block before each layer `i` with `(i + 1) % every == 0`.
        vision_dim: Width of the tower that the resampler reads.

    Returns:
        Tensors by name.

    Example:
        >>> tiny_open_flamingo()["lang_encoder.layers.1.gated_cross_attn_layer.attn_gate"].shape
        torch.Size([1])
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if lm is None:
            lm = PaperLanguageModel(vocab_size=vocab_size, dim=dim, depth=depth, num_heads=2)
        else:
            lm, depth = copy.deepcopy(lm), len(find_decoder_layers(lm).layers)
            vocab_size, dim = find_pair(lm, None, None)[0].weight.shape
        options: dict[str, Any] = {"num_heads": 8, "head_dim": 64, "activation": "gelu"}
        flamingo = Flamingo(
            lm=lm,
            resampler=PerceiverResampler(
                vision_dim=vision_dim, dim=vision_dim, num_latents=4, depth=1, max_frames=0, final_norm=True, **options
            ),
            blocks={
                layer: GatedCrossAttentionBlock(dim, vision_dim=vision_dim, media_norm=False, **options)
                for layer in range(every - 1, depth, every)
            },
            media_token_id=vocab_size + 1,
            end_token_id=vocab_size,
            num_new_tokens=2,
        )
    return export_foreign(flamingo, family="open_flamingo")
