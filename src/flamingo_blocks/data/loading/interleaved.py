"""Several sources as one, by exact shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import gcd, lcm

from flamingo_blocks.data.loading.source import Collate, DataSource

_LONGEST_PERIOD = 10_000


@dataclass(frozen=True)
class ShareSchedule:
    """Which of several sources each slot of an endless row belongs to.

    After any number of slots each source has had its exact share of them, up to less than one. The row repeats itself,
    so what stands at a slot is looked up and not counted.

    Args:
        shares: Numbers above 0, one for each source; only their ratios count. Read as decimals: 0.2 is a fifth.

    Raises:
        ValueError: If a share is not above 0, or the ratios need a row of more than 10,000 slots before it repeats.

    Example:
        >>> schedule = ShareSchedule((2, 1))
        >>> [schedule.at(slot) for slot in range(6)]
        [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1), (0, 3)]

    Source:
        Tijdeman, The chairman assignment problem (1980): of k sources none is ever off by more than 1 - 1 / (2k - 2).
    """

    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.shares or not all(0 < share < float("inf") for share in self.shares):
            raise ValueError(f"shares are {self.shares}, wanted one number above 0 for each source")
        if (period := sum(self._numbers)) > _LONGEST_PERIOD:
            raise ValueError(
                f"shares are {self.shares}, which are exact after {period} slots only, wanted {_LONGEST_PERIOD} at "
                "most: round them"
            )

    def at(self, slot: int) -> tuple[int, int]:
        """The source of a slot, and how many slots it had before.

        Args:
            slot: Counted from 0, without end.
        """
        periods, slot = divmod(slot, len(self._period))
        source, before = self._period[slot]
        return source, periods * self._numbers[source] + before

    @cached_property
    def _numbers(self) -> tuple[int, ...]:
        """Slots of each source in one period."""
        shares = [Fraction(str(share)) for share in self.shares]
        whole = lcm(*(share.denominator for share in shares))
        numbers = [int(share * whole) for share in shares]
        return tuple(number // gcd(*numbers) for number in numbers)

    @cached_property
    def _period(self) -> tuple[tuple[int, int], ...]:
        numbers = self._numbers
        length, margin = sum(numbers), Fraction(1, max(2 * len(numbers) - 2, 1))
        had = [0] * len(numbers)
        row = []
        for slot in range(1, length + 1):
            # Of those that may have one more without being ahead, the one that would first be behind.
            due = [k for k, number in enumerate(numbers) if slot * number - had[k] * length >= margin * length]
            source = min(due, key=lambda k: (had[k] + 1 - margin) / numbers[k])
            row.append((source, had[source]))
            had[source] += 1
        return tuple(row)


@dataclass(frozen=True, kw_only=True, eq=False)
class InterleavedSource:
    """Several sources as one: the rows of each batch come from all of them in turn, by exact shares.

    Use it where one loss and one batch serve several data sets; `Mixture` gives a batch of each instead, which did
    better in the paper. A stream or a mixture takes it wherever it takes a `DataSource`.

    Args:
        name: Stands in states, errors and counts.
        sources: What is interleaved. Each keeps its own order and epochs; its batch size, weight and `collate` do not
            count here.
        shares: Share of the rows by name of the source, as in `ShareSchedule`: `{"pages": 1, "pairs": 4}`.
        collate: As in `DataSource`.
        batch_size: Rows of a batch, over all ranks.
        weight: As in `DataSource`.

    Raises:
        ValueError: If sources and shares are not of the same names, or a number is out of its range.

    Example:
        >>> from functools import partial
        >>> from flamingo_blocks.data import FlamingoExample, collate
        >>> rows = partial(collate, pad_id=0)
        >>> def source(name, documents):
        ...     make = lambda document, key: FlamingoExample([document])
        ...     return DataSource(name=name, documents=documents, make=make, collate=rows, batch_size=1)
        >>> both = InterleavedSource(
        ...     name="both",
        ...     sources=[source("tens", range(10, 20)), source("hundreds", range(100, 200))],
        ...     shares={"tens": 1, "hundreds": 2},
        ...     collate=rows,
        ...     batch_size=6,
        ... )
        >>> from flamingo_blocks.data.loading import DataStream
        >>> next(DataStream(both, seed=0)).input_ids.flatten()
        tensor([117,  10, 191, 133,  19, 112])
    """

    name: str
    sources: Sequence[DataSource]
    shares: Mapping[str, float]
    collate: Collate
    batch_size: int
    weight: float = 1.0

    def __post_init__(self) -> None:
        names = [source.name for source in self.sources]
        if sorted(names) != sorted(self.shares):
            raise ValueError(
                f"source {self.name!r} has sources {names} and shares of {sorted(self.shares)}: "
                "every source needs a name of its own and a share"
            )
        if self.batch_size < 1:
            raise ValueError(f"batch_size of source {self.name!r} is {self.batch_size}, wanted 1 or more")
        if not self.weight >= 0:
            raise ValueError(f"weight of source {self.name!r} is {self.weight}, wanted 0 or more")
        _ = self.schedule

    @cached_property
    def schedule(self) -> ShareSchedule:
        """Which source each row belongs to."""
        return ShareSchedule(tuple(self.shares[source.name] for source in self.sources))
