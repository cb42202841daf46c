"""Queries as rows of a batch, behind the prompt that they share."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from flamingo_blocks.data.documents import MediaSegment
from flamingo_blocks.evaluation.decode.media_pool import MediaPool, media_key
from flamingo_blocks.evaluation.decode.prompt_tokens import TokenizedPrompt
from flamingo_blocks.evaluation.decode.shared_prompt import SharedPrompt
from flamingo_blocks.lm.media_state import MediaState
from flamingo_blocks.models.prompt import PromptState
from flamingo_blocks.ops import MediaLayout


@dataclass(frozen=True)
class QueryRow:
    """The part of a query that its prompt does not hold.

    Args:
        number: Which query it is.
        ids: Its tokens.
        tags: Position of the first token of each of its tags.
        media: Its images and clips.
        prompt: What stands before it; None where it holds its shots itself.
    """

    number: int
    ids: tuple[int, ...]
    tags: tuple[int, ...]
    media: tuple[MediaSegment, ...]
    prompt: PromptState | None

    @classmethod
    def of(cls, number: int, whole: TokenizedPrompt, prompt: SharedPrompt | None, *, kept: int) -> "QueryRow":
        """The first `kept` tokens of a whole text, without those that the prompt holds where it can be used."""
        ids, state, held = whole.ids[:kept], None, 0
        if prompt is not None and prompt.state is not None:
            held = len(prompt.ids)
            if ids[:held] == prompt.ids and len(ids) > held:
                state = prompt.state
        if state is None or prompt is None:
            return cls(number, ids, whole.tags, whole.media, None)
        tags = tuple(tag - held for tag in whole.tags[prompt.num_media :])
        return cls(number, ids[held:], tags, whole.media[prompt.num_media :], state)


@dataclass(frozen=True)
class PlacedRows:
    """Rows as the arguments of a call of the model; `prompt` has one row for all of them, or as many.

    Args:
        ids: Token ids with pads.
        real: True at real tokens.
        media: The items of the rows, each once.
        layout: Which token sees which item, prompt included.
        prompt: What stands before them.
    """

    ids: Int[Tensor, "batch text"]
    real: Bool[Tensor, "batch text"]
    media: MediaState
    layout: MediaLayout
    prompt: PromptState | None

    def arguments(self) -> dict[str, Any]:
        """Of `prefill`, `generate` and `score`."""
        padded = not bool(self.real.all())
        return {
            "input_ids": self.ids, "media": self.media, "layout": self.layout, "prompt": self.prompt,
            "attention_mask": self.real if padded else None,
        }  # fmt: skip


def place_rows(
    pool: MediaPool, rows: Sequence[QueryRow], *, pad_id: int, tag_ids: Sequence[int], left: bool = True
) -> PlacedRows:
    """Bring rows behind one prompt to one length, with each of their items once.

    Args:
        pool: Gives the media tokens, and has the model.
        rows: Rows of one prompt, or of none.
        pad_id: Id of pads.
        tag_ids: The tag, token by token.
        left: Whether pads stand left, so that tokens can follow.
    """
    flamingo = pool.flamingo
    device = next(flamingo.lm.parameters()).device
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    real = torch.zeros(len(rows), width, dtype=torch.bool)
    is_media = torch.zeros_like(real)
    for number, row in enumerate(rows):
        start = width - len(row.ids) if left else 0
        ids[number, start : start + len(row.ids)] = torch.tensor(row.ids, dtype=torch.long)
        real[number, start : start + len(row.ids)] = True
        is_media[number, [start + tag for tag in row.tags]] = True
    ids, real, is_media = ids.to(device), real.to(device), is_media.to(device)
    prompt = rows[0].prompt
    before = None if prompt is None else prompt.for_rows(len(rows))
    if len(tag_ids) == 1:
        layout = flamingo.make_layout(ids, attention_mask=real, prompt=before)
    elif before is None:
        layout = MediaLayout.from_tokens(is_media, valid=real, scope=flamingo.scope)
    else:
        assert before.state.layout is not None
        held = before.state.num_items
        layout = before.state.layout.append(is_media, valid=real, scope=flamingo.scope, num_items=held)
    segments: dict[Any, MediaSegment] = {}
    for row in rows:
        for segment in row.media:
            segments.setdefault(media_key(segment), segment)
    layout = _each_once(layout, rows, list(segments), held=0 if before is None else before.state.num_items)
    return PlacedRows(ids, real, pool.tokens(list(segments.values())), layout, prompt)


def _each_once(layout: MediaLayout, rows: Sequence[QueryRow], keys: Sequence[Any], *, held: int) -> MediaLayout:
    """The layout over a pool that holds each new item once, behind the `held` ones of the prompt."""
    place = {key: held + number for number, key in enumerate(keys)}
    places = [place[media_key(segment)] for row in rows for segment in row.media]
    if not places:
        return layout
    item_ids = layout.item_ids
    new = torch.tensor(places, device=item_ids.device)
    item_ids = torch.where(item_ids >= held, new[(item_ids - held).clamp(min=0, max=len(places) - 1)], item_ids)
    return replace(layout, item_ids=item_ids, plan=None)
