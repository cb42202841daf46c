"""Small sources whose rows tell which sample, in which draw, they are; and the ways in which samples fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import torch

from flamingo_blocks.data import Dropped, FlamingoBatch, FlamingoExample, collate
from flamingo_blocks.data.loading import DataSource


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
        return FlamingoExample(
            [document, drawn, *[1] * (document % 3)], tags=[1], pixels=[torch.full((1, 3, 2, 2), float(document))]
        )


def source(name="numbers", *, size=23, batch_size=4, broken=(), dropped=(), **options):
    return DataSource(
        name=name,
        documents=Numbers(size, frozenset(broken)),
        make=MakeNumber(frozenset(dropped)),
        collate=partial(collate, pad_id=0),
        batch_size=batch_size,
        **options,
    )


def rows(batch: FlamingoBatch) -> list[tuple[int, int]]:
    """Number and draw of each row."""
    return [tuple(row) for row in batch.input_ids[:, :2].tolist()]


def samples(batch: FlamingoBatch) -> list[int]:
    return [number for number, _ in rows(batch)]
