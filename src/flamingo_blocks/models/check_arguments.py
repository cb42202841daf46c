"""What a Flamingo refuses before it computes anything."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.ops._layout_checks import on_host


def refuse_where(wrong: Tensor, message: Callable[[], str]) -> None:
    """Refuse values without waiting for them: at once on the CPU, by an assertion of the device on a GPU.

    Args:
        wrong: One truth value.
        message: Makes the text of the error; called on the CPU only.

    Raises:
        ValueError: If the value is true and on the CPU.
    """
    if wrong.is_cuda:
        torch._assert_async(~wrong)
    elif wrong.device.type == "cpu" and on_host(wrong):
        raise ValueError(message())


def check_token_id(lm: nn.Module, num_new_tokens: int, token_id: int | None, *, name: str) -> None:
    """A token of ours must have a row, where the model tells how many its table has.

    Raises:
        ValueError: If it has none.
    """
    get = getattr(lm, "get_input_embeddings", None)
    table = get() if callable(get) else None
    if token_id is None or not isinstance(table, nn.Embedding):
        return
    if not 0 <= token_id < table.num_embeddings + num_new_tokens:
        raise ValueError(
            f"{name} is {token_id}, but the table has {table.num_embeddings} ids and num_new_tokens is "
            f"{num_new_tokens}; new ids follow the table, so raise num_new_tokens to have it"
        )


def refuse_pairs(
    input_ids: Tensor,
    document: Tensor | None,
    labels: Tensor | None,
    prompt: PromptState | None,
    logits_to_keep: int,
    *,
    with_logits: bool,
) -> None:
    """Arguments of `forward` that exclude each other.

    Raises:
        ValueError: If two of them were given.
    """
    if labels is not None and logits_to_keep:
        raise ValueError(f"labels need all logits, but logits_to_keep is {logits_to_keep}; leave one of them out")
    if labels is None and not with_logits:
        raise ValueError("return_logits is False and labels is None, so nothing would be returned; give one of them")
    if prompt is not None and input_ids.shape[1] == 0:
        raise ValueError("input_ids has no column; the scores of what follows a prompt are prompt.logits")
    if document is not None and prompt is not None:
        raise ValueError("document and prompt exclude each other: a prompt is one document; leave one of them out")


def refuse_right_pads(attention_mask: Tensor | None) -> None:
    """New tokens must follow real ones.

    Raises:
        ValueError: If a row ends in a pad.
    """
    if attention_mask is not None and attention_mask.shape[1] and not bool(attention_mask[:, -1].all()):
        row = int((attention_mask[:, -1] == 0).nonzero()[0])
        raise ValueError(
            f"attention_mask of row {row} ends in a pad; pad on the left, so that new tokens follow real ones"
        )


def check_candidates(candidates: Sequence[Sequence[int]], media_token_id: int) -> None:
    """Candidates are lists of token ids, text and nothing else.

    Raises:
        ValueError: If there is none, or one has no token or holds the media tag.
        TypeError: If one is no list.
    """
    if not candidates:
        raise ValueError("candidates is empty; give at least one list of token ids")
    given: Sequence[Any] = candidates
    for index, candidate in enumerate(given):
        if isinstance(candidate, str) or not isinstance(candidate, Sequence):
            raise TypeError(f"candidate {index} is {candidate!r}, wanted a list of token ids")
        if not len(candidate):
            raise ValueError(f"candidate {index} has no token; give each candidate one token or more")
        if media_token_id in candidate:
            raise ValueError(f"candidate {index} holds the media tag (id {media_token_id}); candidates are text")
