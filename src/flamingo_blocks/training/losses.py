"""What is trained on: which labels count, and the loss over them."""

from collections.abc import Collection

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.ops.next_token_loss import IGNORED


def make_labels(
    input_ids: Int[Tensor, "batch text"],
    *,
    ignored_ids: Collection[int] = (),
    attention_mask: Bool[Tensor, "batch text"] | None = None,
) -> Int[Tensor, "batch text"]:
    """Labels of next-token training, in Hugging Face's convention: same columns as the ids, -100 where nothing counts.

    Args:
        input_ids: Token ids.
        ignored_ids: Tokens never to be predicted, such as the media tag.
        attention_mask: True at real tokens; padding does not count.

    Returns:
        A copy of the ids with -100 where nothing counts.

    Example:
        >>> make_labels(torch.tensor([[1, 9, 2, 0]]), ignored_ids=[9], attention_mask=torch.tensor([[1, 1, 1, 0]]) > 0)
        tensor([[   1, -100,    2, -100]])
    """
    ignored = torch.isin(input_ids, torch.tensor(list(ignored_ids), dtype=input_ids.dtype, device=input_ids.device))
    if attention_mask is not None:
        ignored = ignored | ~attention_mask
    return input_ids.masked_fill(ignored, IGNORED)


def flamingo_loss(model: nn.Module, batch: FlamingoBatch) -> Float[Tensor, ""]:
    """The loss of a Flamingo on a batch, as its `forward` gives it."""
    loss: Tensor = model(**batch.model_inputs()).loss
    return loss
