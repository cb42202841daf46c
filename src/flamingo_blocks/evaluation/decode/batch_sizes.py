"""How many queries run at once: as many as a budget of memory allows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from flamingo_blocks.evaluation.decode.query_rows import QueryRow
from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.lm.text_config import text_config
from flamingo_blocks.models.abilities import look_at_language_model, remembered
from flamingo_blocks.models.call_language_model import accepts
from flamingo_blocks.models.flamingo import Flamingo

Work = TypeVar("Work")
Made = TypeVar("Made")
_WIDE = 24  # activations of a token that are alive at once, in multiples of the model's width


@dataclass(frozen=True)
class TokenBytes:
    """What tokens take of the memory of a device; estimates, and rather too much than too little.

    Args:
        cached: Keys and values of a token in all layers.
        running: Activations of a token while a layer runs.
        predicted: Scores of one token over the vocabulary, and what is computed of them.
        scored: What attention computes for one pair of tokens, in float32 and with all heads.
        pairs: No bytes: for how many pairs attention is computed in the time that the products with weights of one
            token take.
    """

    cached: int
    running: int
    predicted: int
    scored: int
    pairs: int

    @classmethod
    def of(cls, flamingo: Flamingo) -> "TokenBytes":
        """Those of a model, as far as its weights and config tell."""
        lm = flamingo.lm
        config = text_config(lm)
        table = max(
            (m for m in lm.modules() if isinstance(m, nn.Embedding)), key=lambda m: m.num_embeddings, default=None
        )
        vocab, dim = (2**16, 4096) if table is None else (table.num_embeddings, table.embedding_dim)
        dim = max(dim, getattr(config, "hidden_size", 0) or 0)
        itemsize = next(lm.parameters()).element_size()
        num_layers = len(find_decoder_layers(lm, flamingo.layers).layers)
        heads = getattr(config, "num_attention_heads", None) or getattr(config, "n_heads", None) or max(1, dim // 64)
        key_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = getattr(config, "head_dim", None) or dim // heads
        return cls(
            cached=2 * num_layers * key_heads * head_dim * itemsize,
            running=_WIDE * dim * itemsize,
            predicted=vocab * (itemsize + 8),
            scored=4 * heads,
            pairs=6 * dim,  # a layer of 12 dim x dim weights, and 2 dim products for a pair
        )


def in_batches(
    rows: Sequence[QueryRow],
    run: Callable[[list[QueryRow]], list[Made]],
    *,
    need: Callable[[QueryRow], int],
    memory_bytes: int,
    padded: bool,
    max_rows: int | None = None,
) -> dict[int, Made]:
    """Run rows, those of one length together and as many at once as memory allows.

    Args:
        rows: All rows of one prompt.
        run: Runs some of them, and gives one result each.
        need: Bytes that a row takes.
        memory_bytes: Bytes that there are.
        padded: Whether rows of different lengths may run together.
        max_rows: Most rows at once.

    Returns:
        The results by the number of the query.
    """
    found: dict[int, Made] = {}
    batch: list[QueryRow] = []
    largest = 0
    for row in sorted(rows, key=lambda row: (len(row.ids), row.number)):
        largest = max(largest, need(row))
        full = (len(batch) + 1) * largest > memory_bytes or len(batch) == max_rows
        if batch and (full or (not padded and len(batch[0].ids) != len(row.ids))):
            found |= _numbered(batch, run)
            batch, largest = [], need(row)
        batch.append(row)
    return found | (_numbered(batch, run) if batch else {})


def skips_pads(flamingo: Flamingo, *, between: bool, num_tokens: int) -> bool:
    """Whether a model can be given rows of different lengths.

    Args:
        flamingo: The model.
        between: Whether pads stand between a prompt and the rows, and not before all. There they also take the place of
            words in a sliding window.
        num_tokens: The longest text that is to be read.
    """
    window = short_window(flamingo.lm, num_tokens)
    if not accepts(flamingo.lm, "attention_mask") or (between and window is not None):
        return False
    if remembered(flamingo).left_pads is None:
        look_at_language_model(flamingo)
    seen = remembered(flamingo)
    return (seen.inner_pads if between else seen.left_pads) is True


def short_window(lm: nn.Module, num_tokens: int) -> int | None:
    """The sliding window of a model that is too short for a text; None where there is no such.

    Args:
        lm: A language model.
        num_tokens: The text's.
    """
    window = getattr(text_config(lm), "sliding_window", None)
    return window if isinstance(window, int) and num_tokens > window else None


def halved(batch: Sequence[Work], run: Callable[[list[Work]], list[Made]]) -> list[Made]:
    """Run a batch, and where the device has no memory for it, each half by itself.

    Args:
        batch: What to run.
        run: Runs a batch, and gives one result for each member of it.

    Raises:
        torch.OutOfMemoryError: If there is no memory for one alone.

    Example:
        >>> def run(batch):
        ...     if len(batch) > 2:
        ...         raise torch.OutOfMemoryError
        ...     return [2 * number for number in batch]
        >>> halved([1, 2, 3, 4, 5], run)
        [2, 4, 6, 8, 10]
    """
    try:
        return run(list(batch))
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(batch) // 2
    return halved(batch[:half], run) + halved(batch[half:], run)


def _numbered(batch: list[QueryRow], run: Callable[[list[QueryRow]], list[Made]]) -> dict[int, Made]:
    made = halved(batch, run)
    return {row.number: one for row, one in zip(batch, made, strict=True)}
