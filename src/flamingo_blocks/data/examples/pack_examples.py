"""Several short examples in one row."""

from collections.abc import Sequence
from itertools import pairwise

from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.ops.next_token_loss import IGNORED


def pack_examples(examples: Sequence[FlamingoExample], length: int) -> list[FlamingoExample]:
    """Put examples together in rows of at most `length` tokens, so that a batch of short ones has few pads.

    Each example goes into the first row that has room for it, and is a `document` of that row: its tokens attend to
    no other, its positions begin at 0, and it sees its own items alone. `flamingo(**batch.model_inputs())` takes care
    of all that, with a language model that can be made to.

        row    <BOS> <image> a  cat <EOC> <BOS> <image> a  dog <EOC>
        document  0     0    0   0    0     1      1    1   1    1

    Args:
        examples: Rows, packed ones among them. Those of different `direction` never share a row, nor do those with
            pixels and those with features.
        length: Most tokens of a row.

    Returns:
        The rows, in the order in which they were begun; the same examples always give the same rows. No loss is taken
        on the first token of a document, for nothing before it belongs to it.

    Raises:
        ValueError: If an example is longer than a row, or some have labels and some have none.

    Example:
        >>> rows = pack_examples([FlamingoExample([1, 2]), FlamingoExample([3, 4, 5]), FlamingoExample([6])], 4)
        >>> [row.input_ids for row in rows]
        [(1, 2, 6), (3, 4, 5)]
        >>> rows[0].document
        (0, 0, 1)
    """
    _check(examples, length)
    rows: list[list[FlamingoExample]] = []
    room: list[int] = []
    for example in examples:
        fits = (
            place
            for place, row in enumerate(rows)
            if room[place] >= len(example.input_ids) and all(_goes_with(example, other) for other in row)
        )
        place = next(fits, len(rows))
        if place == len(rows):
            rows.append([])
            room.append(length)
        rows[place].append(example)
        room[place] -= len(example.input_ids)
    return [_together(row) for row in rows]


def _goes_with(example: FlamingoExample, other: FlamingoExample) -> bool:
    same_kind = not (example.pixels and other.features) and not (example.features and other.pixels)
    return same_kind and example.direction == other.direction


def _together(row: Sequence[FlamingoExample]) -> FlamingoExample:
    ids: list[int] = []
    tags: list[int] = []
    document: list[int] = []
    labels: list[int] = []
    for example in row:
        tags += [len(ids) + tag for tag in example.tags]
        ids += example.input_ids
        before = document[-1] if document else -1
        document += _numbered(example, before + 1)
        labels += example.labels or ()
    if labels:
        starts = [0, *(place for place, (one, two) in enumerate(pairwise(document), 1) if one != two)]
        for start in starts:
            labels[start] = IGNORED
    features = [item for example in row for item in example.features or ()]
    sources = {example.source for example in row}
    return FlamingoExample(
        tuple(ids),
        tuple(tags),
        pixels=None if features else [item for example in row for item in example.pixels or ()],
        features=features or None,
        labels=tuple(labels) if row[0].labels is not None else None,
        document=tuple(document),
        source=sources.pop() if len(sources) == 1 else None,
        direction=row[0].direction,
    )


def _numbered(example: FlamingoExample, number: int) -> list[int]:
    """Numbers of the documents of an example, counted on from those before it."""
    if example.document is None:
        return [number] * len(example.input_ids)
    numbers = []
    for place, document in enumerate(example.document):
        number += place > 0 and document != example.document[place - 1]
        numbers.append(number)
    return numbers


def _check(examples: Sequence[FlamingoExample], length: int) -> None:
    for index, example in enumerate(examples):
        if len(example.input_ids) > length:
            raise ValueError(
                f"example {index} has {len(example.input_ids)} tokens, more than length, which is {length}"
            )
        if (example.labels is None) != (examples[0].labels is None):
            raise ValueError(
                f"example {index} has {'no ' * (example.labels is None)}labels, example 0 has "
                f"{'no ' * (examples[0].labels is None)}labels; give every example labels, or give none any"
            )
