"""Greedy choice and sampling for language models that have no `generate` of their own."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from flamingo_blocks.models.call_language_model import call_language_model
from flamingo_blocks.models.sharded_calls import any_rank


def plain_generate(
    lm: nn.Module,
    input_ids: Int[Tensor, "batch text"],
    *,
    attention_mask: Bool[Tensor, "batch text"] | None = None,
    max_new_tokens: int = 20,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    eos_token_id: int | Sequence[int] | Int[Tensor, "..."] | None = None,
    pad_token_id: int | None = None,
    generator: torch.Generator | None = None,
    streamer: Any | None = None,
    together: bool = False,
) -> Int[Tensor, "batch longer"]:
    """Continue token ids, one token a step, running the whole text each time.

    Args:
        lm: Any decoder language model.
        input_ids: Prompts of one length, or padded on the left where the model takes an `attention_mask`.
        attention_mask: True at real tokens.
        max_new_tokens: Steps at most.
        do_sample: Draw tokens instead of taking the likeliest.
        temperature: Divides the logits before drawing.
        top_k: Draw among so many tokens only; among all when 0 or None.
        top_p: Draw among the likeliest tokens that together have this probability, the likeliest one at least; among
            all from 1 on.
        eos_token_id: Ids that end a row.
        pad_token_id: Fills rows that have ended; the first end by default.
        generator: Source of randomness.
        streamer: Gets tokens as they come: `put(ids)` and `end()`.
        together: Run until all processes of the group are done, as a sharded model has to; each returns its own tokens.

    Returns:
        Prompts and new tokens.

    Raises:
        ValueError: If `max_new_tokens`, `top_k` or `top_p` is negative, or `temperature` not positive.

    Example:
        >>> lm = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 10))
        >>> plain_generate(lm, torch.tensor([[1, 2]]), max_new_tokens=3).shape
        torch.Size([1, 5])
    """
    if max_new_tokens < 0 or temperature <= 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens} and temperature {temperature}; wanted >= 0 and > 0")
    if (top_k or 0) < 0 or (top_p or 0) < 0:
        raise ValueError(f"top_k is {top_k} and top_p {top_p}; wanted >= 0, or None for all tokens")
    ends = as_ids(eos_token_id)
    pad = pad_token_id if pad_token_id is not None else (ends[0] if ends else 0)
    done = torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
    if streamer is not None:
        streamer.put(input_ids.cpu())
    steps, wanted = 0, max_new_tokens > 0
    while any_rank(wanted, input_ids.device) if together else wanted:
        logits = call_language_model(lm, input_ids, attention_mask=attention_mask, logits_to_keep=1).logits[:, -1]
        if not wanted:
            continue  # a call for the other ranks' sake
        token = _draw(logits.float() / temperature, top_k, top_p, generator) if do_sample else logits.argmax(-1)
        token = token.masked_fill(done, pad)
        input_ids = torch.cat([input_ids, token[:, None]], dim=1)
        if attention_mask is not None:
            attention_mask = torch.cat([attention_mask, ~done[:, None]], dim=1)
        if streamer is not None:
            streamer.put(token.cpu())
        done = done | torch.isin(token, torch.tensor(ends, device=token.device, dtype=token.dtype))
        steps += 1
        wanted = steps < max_new_tokens and not bool(done.all())
    if streamer is not None:
        streamer.end()
    return input_ids


def as_ids(ids: Any) -> list[int]:
    """Ids given as one number, several, a tensor of them, or none."""
    if isinstance(ids, Tensor):
        ids = ids.tolist()
    if ids is None:
        return []
    return [int(token) for token in ids] if isinstance(ids, list | tuple) else [int(ids)]


def _draw(
    logits: Float[Tensor, "batch vocab"], top_k: int | None, top_p: float | None, generator: torch.Generator | None
) -> Int[Tensor, " batch"]:
    if top_k:
        worst = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < worst, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        probability = ordered.softmax(-1)
        beyond = probability.cumsum(-1) - probability >= top_p
        beyond[:, 0] = False  # the likeliest token always stays, also beside a `top_p` of 0
        logits = logits.scatter(1, order, ordered.masked_fill(beyond, float("-inf")))
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
