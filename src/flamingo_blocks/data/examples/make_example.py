"""Tokens and the items that were read for them become a row of a batch to be."""

from collections.abc import Sequence

from torch import Tensor

from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.data.tokenize import TokenizedDocument
from flamingo_blocks.types import Direction


def make_example(
    tokenized: TokenizedDocument,
    items: Sequence[Tensor],
    *,
    as_features: bool,
    labels: Sequence[int] | None,
    direction: Direction | None = None,
    source: str | None = None,
) -> FlamingoExample:
    """Put a row together.

    Args:
        tokenized: Its text.
        items: The pixels or features of its media, in order.
        as_features: Whether they are features.
        labels: One a token; None for prompts.
        direction: As in `FlamingoExample`.
        source: Likewise.
    """
    return FlamingoExample(
        tokenized.ids,
        tokenized.tags,
        pixels=None if as_features else items,
        features=items if as_features else None,
        labels=labels,
        source=source,
        direction=direction,
    )
