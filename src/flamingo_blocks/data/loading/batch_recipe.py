"""A batch as a function of its number: which samples it takes, and what stands in for those that cannot be used."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.collate import FlamingoExample
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.loading.order import SampleOrder
from flamingo_blocks.data.loading.source import DataSource

_MOST_TRIES = 1000
_BROKEN = "broken_record"  # of an error that has no reason of its own


@dataclass(frozen=True)
class MadeBatch:
    """A batch, and how many samples were dropped on its way, by reason."""

    batch: FlamingoBatch
    dropped: Counter[str]


class BatchRecipe:
    """Makes one rank's share of any batch of a source; a pure function of the batch's number.

    Global batch b takes positions b * B up to (b + 1) * B of the source's endless order, rank r of W its r-th part.
    """

    def __init__(self, source: DataSource, *, seed: int, rank: int, world_size: int) -> None:
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}, wanted one of the {world_size} of world_size, counted from 0")
        if source.batch_size % world_size:
            raise ValueError(
                f"batch_size of source {source.name!r} is {source.batch_size}, wanted a multiple of world_size, "
                f"{world_size}: the mean over ranks is the mean over the batch only if all have as many rows"
            )
        self.source = source
        self.seed = seed
        self._order = SampleOrder(source.size, seed, source.name, source.shuffle)
        self._rows = source.batch_size // world_size
        self._first = rank * self._rows

    def __call__(self, number: int) -> MadeBatch:
        """This rank's share of a batch."""
        start = number * self.source.batch_size + self._first
        dropped: Counter[str] = Counter()
        examples = [self._example(position, dropped) for position in range(start, start + self._rows)]
        return MadeBatch(self.source.collate(examples), dropped)

    def _example(self, position: int, dropped: Counter[str]) -> FlamingoExample:
        """The sample of a position; for one that cannot be used the next one in its walk through the epoch."""
        found: Dropped | FlamingoExample | None = None
        here: Counter[str] = Counter()
        for tries in range(min(self.source.size, _MOST_TRIES)):
            found = self._try(position, tries)
            if not isinstance(found, Dropped):
                dropped.update(here)
                return found
            here[found.reason] += 1
        raise ValueError(
            f"source {self.source.name!r} has nothing for position {position}: {here.total()} of its "
            f"{self.source.size} samples were tried and dropped, {dict(here)}, the last for {found}. "
            "Filter the documents before they are loaded, or look at `make`"
        )

    def _try(self, position: int, tries: int) -> FlamingoExample | Dropped:
        source, place = self.source, self._order.at(position, tries=tries)
        try:
            document = _read(source.documents, place.sample)
            if isinstance(document, Dropped):
                return document
            # A stand-in is seen in its own place too: the key has its tries, so that it is not the same row twice.
            key = (self.seed, place.epoch, f"{source.name}/{place.sample}", *((tries,) if tries else ()))
            return source.make(document, key=key)
        except Exception as error:
            error.add_note(f"this was sample {place.sample} of source {source.name!r}, in epoch {place.epoch}")
            raise


def _read(documents: Any, sample: int) -> Any:
    try:
        return documents[sample]
    except ValueError as error:
        return Dropped(getattr(error, "reason", _BROKEN), str(error))
