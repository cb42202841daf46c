"""What transformers' Mllama computes where it is wrong, for those who compare with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from flamingo_blocks.nn import GatedCrossAttention, MediaKV

if TYPE_CHECKING:
    from flamingo_blocks.models import Flamingo


@contextmanager
def transformers_leak(flamingo: "Flamingo") -> Iterator[None]:
    """Let text that sees no image attend to all images of its row, as transformers' Mllama does by mistake.

    Inside, a model of Llama 3.2 Vision gives the logits of transformers 5.23 for every token of a row, so that a
    converted checkpoint can be compared on texts that do not begin with an image. Outside, text before an image does
    not feel it, as in Meta's own code. Use it for `forward` alone: a prompt and generation are refused.

    Args:
        flamingo: The model, whose blocks attend like this until the `with` block ends.

    Raises:
        ValueError: Inside, if media are projected already, whose padded tiles the mistake would see.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids, pixels = torch.tensor([[5, flamingo.media_token_id]]), torch.ones(1, 1, 3, 8, 8)
        >>> with transformers_leak(flamingo):
        ...     flamingo(ids, pixels=pixels).logits.shape
        torch.Size([1, 2, 34])

    Source:
        `_prepare_cross_attention_mask` of transformers 5.23 multiplies the mask of such rows by 0, which masks nothing;
        issue 39379 of that project. Rows of fewer images than others of their batch see padding there, and do not here.
    """
    attentions = [module for module in flamingo.blocks.modules() if isinstance(module, GatedCrossAttention)]
    handles = [attention.register_forward_hook(_attend_everywhere, with_kwargs=True) for attention in attentions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _attend_everywhere(
    attention: GatedCrossAttention, args: tuple[Any, ...], _kwargs: dict[str, Any], output: Tensor
) -> Tensor:
    text, media, layout = args
    projected = isinstance(media, MediaKV)
    if projected:
        raise ValueError("media are projected, as for a prompt or generation; compare forward without a prompt")
    slots = (layout.item_ids >= 0).sum(1, keepdim=True).expand_as(layout.last)
    everywhere = replace(layout, first=torch.zeros_like(slots), last=slots - 1, plan=None, single_item=False)
    leaked = attention.forward(text, media, everywhere)  # padded tiles are seen too
    return torch.where(layout.sees_any()[..., None], output, leaked)
