"""A batch as a function of its number: which samples it takes, and what stands in for those that cannot be used."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.loading.interleaved import InterleavedSource
from flamingo_blocks.data.loading.order import SampleOrder
from flamingo_blocks.data.loading.source import DataSource

Source = DataSource | InterleavedSource

_MOST_TRIES = 1000
_BROKEN = "broken_record"  # of an error that has no reason of its own


@dataclass(frozen=True)
class MadeBatch:
    """A batch, and how many samples were dropped on its way, by reason."""

    batch: FlamingoBatch
    dropped: Counter[str]


class BatchRecipe:
    """Makes one rank's share of any batch of a source; a pure function of the batch's number.

    Global batch b takes slots b * B up to (b + 1) * B of the source, rank r of W its r-th part. The slots are the
    positions of the source's endless order; those of an interleaved source are shared out among its sources first.
    """

    def __init__(self, source: Source, *, seed: int, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}, wanted one of the {world_size} of world_size, counted from 0")
        if source.batch_size % world_size:
            raise ValueError(
                f"batch_size of source {source.name!r} is {source.batch_size}, wanted a multiple of world_size, "
                f"{world_size}: the mean over ranks is the mean over the batch only if all have as many rows"
            )
        self.source = source
        self.seed = seed
        self._parts = [
            _Part(part, SampleOrder(part.size, seed, part.name, part.shuffle))
            for part in (source.sources if isinstance(source, InterleavedSource) else [source])
        ]
        self._rows = source.batch_size // world_size
        self._first = rank * self._rows

    def __call__(self, number: int) -> MadeBatch:
        """This rank's share of a batch."""
        start = number * self.source.batch_size + self._first
        dropped: Counter[str] = Counter()
        examples = [self._example(slot, dropped) for slot in range(start, start + self._rows)]
        return MadeBatch(self.source.collate(examples), dropped)

    def _example(self, slot: int, dropped: Counter[str]) -> FlamingoExample:
        """The sample of a slot; for one that cannot be used the next one in its walk through the epoch."""
        part, position = self._place(slot)
        last: Dropped | None = None
        here: Counter[str] = Counter()
        for tries in range(min(part.source.size, _MOST_TRIES)):
            found = part.make(position, tries, seed=self.seed)
            if not isinstance(found, Dropped):
                dropped.update(here)
                return found
            last = found
            here[found.reason] += 1
        raise ValueError(
            f"source {part.source.name!r} has nothing for position {position}: {here.total()} of its "
            f"{part.source.size} samples were tried and dropped, {dict(here)}, the last for {last}. "
            "Filter the documents before they are loaded, or look at `make`"
        )

    def _place(self, slot: int) -> tuple["_Part", int]:
        if isinstance(self.source, InterleavedSource):
            index, position = self.source.schedule.at(slot)
            return self._parts[index], position
        return self._parts[0], slot


@dataclass(frozen=True)
class _Part:
    """A source and its order."""

    source: DataSource
    order: SampleOrder

    def make(self, position: int, tries: int, *, seed: int) -> FlamingoExample | Dropped:
        place = self.order.at(position, tries=tries)
        name = self.source.name
        try:
            document = _read(self.source.documents, place.sample)
            if isinstance(document, Dropped):
                return document
            # A stand-in is seen in its own place too: the key has its tries, so that it is not the same row twice.
            key = (seed, place.epoch, f"{name}/{place.sample}", *((tries,) if tries else ()))
            return self.source.make(document, key=key)
        except Exception as error:
            error.add_note(f"this was sample {place.sample} of source {name!r}, in epoch {place.epoch}")
            raise


def _read(documents: Any, sample: int) -> Any:
    """The document, or why it cannot be read: a `ValueError` is about this record, anything else is not."""
    try:
        return documents[sample]
    except ValueError as error:
        return Dropped(getattr(error, "reason", _BROKEN), str(error))
