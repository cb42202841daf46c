"""Small sources whose rows tell which sample, in which draw, they are; and the ways in which samples fail."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from hashlib import sha256
from zlib import crc32

import torch
from torch import Tensor

from flamingo_blocks import MediaLayout
from flamingo_blocks.data import Dropped, FlamingoBatch, FlamingoExample, collate
from flamingo_blocks.data.loading import DataSource, InterleavedSource, Mixture


class BrokenRecordError(ValueError):
    """What a reader raises."""

    reason = "json"


@dataclass(frozen=True)
class Numbers(Sequence):
    """Document i is the number i; some records are broken."""

    size: int
    broken: frozenset[int] = frozenset()
    fingerprint: str = "numbers"

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        if index in self.broken:
            raise BrokenRecordError(f"record {index} is no JSON")
        return index


@dataclass(frozen=True)
class MakeNumber:
    """A row of the number and of what the key draws, with an image of it; some numbers are dropped."""

    dropped: frozenset[int] = frozenset()

    def __call__(self, document, *, key):
        if document in self.dropped:
            return Dropped("too_small")
        drawn = crc32(repr(key).encode()) % 1000
        image = torch.full((1, 3, 2, 2), float(document))
        return FlamingoExample([document, drawn, *[1] * (document % 3)], tags=[1], pixels=[image])


class FailsInWorkers(MakeNumber):
    """Number 5 makes it raise what cannot be pickled and unpickled, number 6 what can."""

    def __call__(self, document, *, key):
        if document == 5:
            raise UnreadableError(1, 2)
        if document == 6:
            raise KeyError("width")
        return super().__call__(document, key=key)


class UnreadableError(Exception):
    def __init__(self, first, second):
        super().__init__("two arguments become one")


class TellsThreads(MakeNumber):
    """Rows tell how many threads torch has where they are made."""

    def __call__(self, document, *, key):
        return FlamingoExample([torch.get_num_threads()])


class NeverEnds(MakeNumber):
    """Makes the first few numbers only."""

    def __call__(self, document, *, key):
        while document >= 4:
            time.sleep(60)
        return super().__call__(document, key=key)


LAYOUT = MediaLayout.from_tokens(torch.zeros(1, 1, dtype=torch.bool))


def numbers_only(examples) -> FlamingoBatch:
    """A batch of number and draw of each row, and no media: ten times quicker than `collate`."""
    numbers = torch.tensor([example.input_ids[:2] for example in examples])
    return FlamingoBatch(input_ids=numbers, attention_mask=torch.ones_like(numbers, dtype=torch.bool), layout=LAYOUT)


WHOLE = partial(collate, pad_id=0)


def source(
    name="numbers", *, size=23, batch_size=4, broken=(), dropped=(), make=MakeNumber, collate=numbers_only, **options
):
    return DataSource(
        name=name,
        documents=Numbers(size, frozenset(broken)),
        make=make(frozenset(dropped)),
        collate=collate,
        batch_size=batch_size,
        **options,
    )


def three_sources(collate=numbers_only):
    """Pages, pairs with a broken record and one that is dropped, and two sources by shares."""
    mixed = InterleavedSource(
        name="mixed",
        sources=[source("clips", size=5, broken=[0]), source("texts", size=11)],
        shares={"clips": 1, "texts": 2.5},
        collate=collate,
        batch_size=4,
    )
    pages = source("pages", size=23, collate=collate)
    pairs = source("pairs", size=50, batch_size=8, broken=[3, 4], dropped=[7], collate=collate)
    return [pages, pairs, mixed]


def mixture(collate=numbers_only, **options):
    return Mixture(three_sources(collate), seed=3, **options)


def rows(batch: FlamingoBatch) -> list[tuple[int, int]]:
    """Number and draw of each row."""
    return [tuple(row) for row in batch.input_ids[:, :2].tolist()]


def samples(batch: FlamingoBatch) -> list[int]:
    return [number for number, _ in rows(batch)]


def digest(step: Mapping[str, FlamingoBatch]) -> str:
    """Every byte of every tensor of a step."""
    found = sha256()
    for name, batch in sorted(step.items()):
        layout = batch.layout
        tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
        for key, value in {**tensors, "first": layout.first, "last": layout.last, "ids": layout.item_ids}.items():
            if isinstance(value, Tensor):
                raw = bytes(value.contiguous().reshape(-1).view(torch.uint8).tolist())
                found.update(repr((name, key, value.dtype, value.shape)).encode() + raw)
    return found.hexdigest()
