"""A prompt that was run once and is used by many queries."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.errors import ShapeError
from flamingo_blocks.lm.media_state import MediaState


@dataclass(frozen=True, eq=False, repr=False)
class PromptState:
    """Text and media that went through the model already; made by `Flamingo.prefill`.

    Using a prompt never changes it, so one prompt may serve many queries, in any order, one call at a time. Calls that
    hand a cache on (`prefill`, `generate`), or need gradients, work on a copy of the language model's cache; `forward`
    without gradients and `score` borrow it, and write behind what it holds.

    Args:
        input_ids: The tokens so far.
        attention_mask: True at real tokens.
        state: The media so far, projected for every block.
        cache: The language model's own cache; `None` for models without one, which run the text again.
        logits: Scores of the token that follows.
        cache_repeats: Rows that each row of the cache stands for; they are made when the cache is used.

    Example:
        >>> from flamingo_blocks.models import build_tiny_flamingo
        >>> flamingo = build_tiny_flamingo()
        >>> ids = torch.tensor([[1, flamingo.media_token_id, 5]])
        >>> shots = flamingo.prefill(ids, pixels=torch.zeros(1, 1, 3, 8, 8))
        >>> shots.logits.shape, shots.state.num_items
        (torch.Size([1, 1, 34]), 1)
        >>> queries = torch.tensor([[6, 7], [8, 9]])
        >>> flamingo(queries, prompt=shots).logits.shape  # one prompt serves both
        torch.Size([2, 2, 34])
    """

    input_ids: Int[Tensor, "batch text"]
    attention_mask: Bool[Tensor, "batch text"]
    state: MediaState
    cache: Any | None
    logits: Float[Tensor, "batch 1 vocab"]
    cache_repeats: int = 1

    def __repr__(self) -> str:
        rows, tokens = self.input_ids.shape
        cache = "no cache" if self.cache is None else type(self.cache).__name__
        return f"PromptState({rows} rows of {tokens} tokens, {self.state.num_items} items, {cache})"

    @property
    def num_rows(self) -> int:
        """Rows of text."""
        return self.input_ids.shape[0]

    def fork_cache(self, *, room: int = 0) -> Any | None:
        """A copy of the cache with all rows, to be changed by a call that brings about `room` tokens."""
        if self.cache is None:
            return None
        from flamingo_blocks.models import prompt_cache  # noqa: PLC0415 (caches are those of transformers)

        return prompt_cache.fork(self.cache, repeats=self.cache_repeats, room=room)

    def lend_cache(self, *, room: int = 0) -> Any | None:
        """The cache with all rows for one call without gradients, whose `room` tokens nobody needs afterwards.

        Without a copy, unless rows are repeated; the call must have ended before the prompt is used again.
        """
        if self.cache is None or self.cache_repeats > 1:
            return self.fork_cache(room=room)
        from flamingo_blocks.models import prompt_cache  # noqa: PLC0415 (caches are those of transformers)

        return prompt_cache.borrow(self.cache)

    def repeat_rows(self, times: int) -> "PromptState":
        """Each row `times` times; neither media nor cache are copied."""
        if times == 1:
            return self
        ids, mask, logits = (x.repeat_interleave(times, 0) for x in (self.input_ids, self.attention_mask, self.logits))
        return replace(
            self, input_ids=ids, attention_mask=mask, logits=logits, state=self.state.repeat_rows(times),
            cache_repeats=self.cache_repeats * times,
        )  # fmt: skip

    def for_rows(self, rows: int) -> "PromptState":
        """The prompt for a batch of queries: one row serves all of them.

        Raises:
            ValueError: If the prompt has several rows, and not as many as the queries.
        """
        if self.num_rows == rows:
            return self
        if self.num_rows != 1:
            raise ShapeError(f"prompt has {self.num_rows} rows and input_ids {rows}; wanted 1 row to share, or as many")
        return self.repeat_rows(rows)

    def extended_mask(self, attention_mask: Tensor | None, num_text: int) -> Bool[Tensor, "batch text"]:
        """Mask of the prompt and the text behind it."""
        new = self.attention_mask.new_ones(self.num_rows, num_text) if attention_mask is None else attention_mask.bool()
        return torch.cat([self.attention_mask, new], dim=1)
