"""Several short examples in one row."""

from collections.abc import Sequence
from itertools import pairwise

from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.ops.next_token_loss import IGNORED
from flamingo_blocks.types import Direction


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
    shortest = min((len(example.input_ids) for example in examples), default=0)
    rows: list[_Row] = []
    with_room: list[_Row] = []  # in the order of the rows; those that take no example more are looked at no more
    for example in examples:
        row = next((row for row in with_room if row.takes(example)), None)
        if row is None:
            row = _Row(length, example.direction)
            rows.append(row)
            with_room.append(row)
        row.add(example)
        if row.room < shortest:
            with_room.remove(row)
    return [_together(row.examples) for row in rows]


class _Row:
    """The examples of a row, and what else it takes."""

    def __init__(self, length: int, direction: Direction | None) -> None:
        self.room, self.direction = length, direction
        self.pixels = self.features = False
        self.examples: list[FlamingoExample] = []

    def takes(self, example: FlamingoExample) -> bool:
        mixed = (self.pixels and example.features) or (self.features and example.pixels)
        return len(example.input_ids) <= self.room and example.direction == self.direction and not mixed

    def add(self, example: FlamingoExample) -> None:
        self.examples.append(example)
        self.room -= len(example.input_ids)
        self.pixels, self.features = self.pixels or bool(example.pixels), self.features or bool(example.features)


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
