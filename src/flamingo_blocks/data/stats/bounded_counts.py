"""Counts in bounded memory, which two halves of the data can be added from."""

import heapq
from collections.abc import Iterable, Mapping
from typing import TypeVar

Name = TypeVar("Name")

KEPT_BITS = 12  # of a number, by a histogram
MAX_NAMES = 10_000
MAX_HASHES = 65_536


class Histogram:
    """How often each number was met; of large ones the first twelve bits are kept, so that memory has a bound.

    A number below 4,096 is counted as it is, a larger one as at most 0.05 % less than it is.

    Args:
        numbers: To begin with; whole and not below 0.

    Example:
        >>> lengths = Histogram([1, 2, 3, 1000])
        >>> lengths.quantiles((0.25, 0.5, 1.0))
        [1, 2, 1000]
        >>> lengths.total
        1006
    """

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        """Sum of all numbers, exactly."""
        for number in numbers:
            self.add(number)

    def add(self, number: int) -> None:
        """Count a number, 0 or more."""
        shift = max(number.bit_length() - KEPT_BITS, 0)
        kept = number >> shift << shift
        self.counts[kept] = self.counts.get(kept, 0) + 1
        self.total += number

    def quantiles(self, shares: Iterable[float]) -> list[int]:
        """Least numbers that such shares of all are not above; empty where nothing was met."""
        count, found = sum(self.counts.values()), []
        for share in shares if count else ():
            below = 0
            for number, times in sorted(self.counts.items()):
                below += times
                if below >= share * count:
                    found.append(number)
                    break
        return found

    def __add__(self, other: "Histogram") -> "Histogram":
        both = Histogram()
        both.counts = _added(self.counts, other.counts)
        both.total = self.total + other.total
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and (self.counts, self.total) == (other.counts, other.total)

    __hash__ = None  # type: ignore[assignment]  # it changes


class FrequentNames:
    """Which names are met most often.

    Counts are exact up to `max_names` different names. Beyond, the rarest are forgotten: a count is then too small, by
    `max_missed` at most, which is below the number of all names by `max_names`.

    Example:
        >>> hosts = FrequentNames(["a.com", "b.com", "a.com"])
        >>> hosts.most_common(1)
        [('a.com', 2)]

    Source:
        Misra and Gries, "Finding repeated elements" (1982); that they can be added: Agarwal et al., "Mergeable
        summaries" (2012).
    """

    def __init__(self, names: Iterable[str] = (), *, max_names: int = MAX_NAMES) -> None:
        self.max_names, self.max_missed = max_names, 0
        self.counts: dict[str, int] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Count a name."""
        self.counts[name] = self.counts.get(name, 0) + 1
        if len(self.counts) >= 2 * self.max_names:  # not at each name beyond the bound: it looks through all of them
            self._forget()

    def most_common(self, number: int) -> list[tuple[str, int]]:
        """The names met most often, with their counts; of equals the first by the alphabet."""
        return sorted(self.counts.items(), key=lambda pair: (-pair[1], pair[0]))[:number]

    def _forget(self) -> None:
        """Take from every count that of the first name too many."""
        if len(self.counts) > self.max_names:
            taken = sorted(self.counts.values(), reverse=True)[self.max_names]
            self.counts = {name: count - taken for name, count in self.counts.items() if count > taken}
            self.max_missed += taken

    def __add__(self, other: "FrequentNames") -> "FrequentNames":
        both = FrequentNames(max_names=min(self.max_names, other.max_names))
        both.counts = _added(self.counts, other.counts)
        both.max_missed = self.max_missed + other.max_missed
        if len(both.counts) >= 2 * both.max_names:
            both._forget()
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrequentNames) and (self.counts, self.max_missed) == (other.counts, other.max_missed)

    __hash__ = None  # type: ignore[assignment]  # it changes


class RepeatedHashes:
    """How many of many things are repeats of others, by their hashes.

    Exact up to `max_hashes` different ones. Beyond, the smallest hashes are kept, each with its true count: a sample
    of the different things, which is the same whatever their order, and however they were split.

    Example:
        >>> hashes = RepeatedHashes([5, 7, 5, 5])
        >>> hashes.repeats(4), hashes.is_exact
        (2, True)

    Source:
        Bottom-k samples: Cohen and Kaplan, "Summarizing data using bottom-k sketches" (2007).
    """

    def __init__(self, hashes: Iterable[int] = (), *, max_hashes: int = MAX_HASHES) -> None:
        self.max_hashes, self.is_exact = max_hashes, True
        self.counts: dict[int, int] = {}
        self._largest: list[int] = []  # a heap of the negative hashes
        for one in hashes:
            self.add(one)

    def add(self, one: int, times: int = 1) -> None:
        """Count a hash, which is spread evenly over its numbers."""
        if one in self.counts:
            self.counts[one] += times
        elif len(self.counts) < self.max_hashes:
            self.counts[one] = times
            heapq.heappush(self._largest, -one)
        else:
            self.is_exact = False
            if one < -self._largest[0]:
                self.counts[one] = times
                del self.counts[-heapq.heapreplace(self._largest, -one)]

    def repeats(self, count: int) -> int:
        """Of so many things those that were met before; an estimate where `is_exact` is False."""
        met = sum(self.counts.values())
        return round(count * (met - len(self.counts)) / met) if met else 0

    def __add__(self, other: "RepeatedHashes") -> "RepeatedHashes":
        both = RepeatedHashes(max_hashes=min(self.max_hashes, other.max_hashes))
        for one, times in _added(self.counts, other.counts).items():
            both.add(one, times)
        both.is_exact = both.is_exact and self.is_exact and other.is_exact
        return both

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RepeatedHashes) and (self.counts, self.is_exact) == (other.counts, other.is_exact)

    __hash__ = None  # type: ignore[assignment]  # it changes


def _added(one: Mapping[Name, int], other: Mapping[Name, int]) -> dict[Name, int]:
    return {name: one.get(name, 0) + other.get(name, 0) for name in (*one, *other)}
