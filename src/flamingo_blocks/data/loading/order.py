"""The order in which samples are seen: a function of the seed and the position, so nothing has to be remembered."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import shake_128
from math import gcd, isqrt

VERSION = 1  # another order for the same seed is another number here: states of the old one are refused
_ROUNDS = 8  # four leave traces in what follows what; eight pass for random from three samples up
_BYTES = 4


@dataclass(frozen=True)
class Place:
    """Where a position of the endless order lies: the epoch, counted from 0, and the sample that is seen there.

    Example:
        >>> place = SampleOrder(4, seed=0).at(5)
        >>> place.epoch, place.sample
        (1, 3)
    """

    epoch: int
    sample: int


@dataclass(frozen=True)
class SampleOrder:
    """An endless order of samples: epoch after epoch, each a permutation of its own, each sample once an epoch.

    Use it to look up what is seen where. No table of the samples is kept, so the tenth sample and the ten billionth
    cost the same: a permutation is eight rounds of a Feistel network over a square no smaller than the samples.

    Args:
        size: Number of samples.
        seed: Decides all permutations.
        name: Sources of different names are ordered differently under one seed.
        shuffle: False keeps the order of the samples in every epoch.

    Raises:
        ValueError: If there is no sample.

    Example:
        >>> order = SampleOrder(4, seed=0)
        >>> [order.at(position).sample for position in range(8)]
        [3, 1, 2, 0, 0, 3, 1, 2]
        >>> order.at(10**12)
        Place(epoch=250000000000, sample=2)
    """

    size: int
    seed: int
    name: str = ""
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}, wanted one sample at least")

    def at(self, position: int, *, tries: int = 0) -> Place:
        """What is seen at a position, or in place of it.

        Args:
            position: Counted from 0, without end.
            tries: How many samples were tried for this position and could not be used. Each further one stands a fixed
                stride on in the same epoch, far from the position, and none is named twice before all were.
        """
        epoch, index = divmod(position, self.size)
        index = (index + tries * self._stride) % self.size
        return Place(epoch, self._permute(index, epoch) if self.shuffle else index)

    @cached_property
    def _stride(self) -> int:
        """About 0.6 of an epoch, with no divisor in common with it: a walk of such strides sees every sample."""
        stride = max(1, round(self.size * 0.618))
        while gcd(stride, self.size) > 1:
            stride += 1
        return stride

    def _permute(self, index: int, epoch: int) -> int:
        side = isqrt(self.size - 1) + 1
        rounds = _round_tables(self.seed, self.name, epoch, side)
        while True:  # what falls into the rest of the square is sent on until it falls among the samples
            left, right = divmod(index, side)
            for table in rounds:
                left, right = right, (left + table[right]) % side
            index = left * side + right
            if index < self.size:
                return index


@lru_cache(maxsize=16)
def _round_tables(seed: int, name: str, epoch: int, side: int) -> tuple[Sequence[int], ...]:
    """One random function a round."""
    stream = shake_128(repr((seed, name, epoch)).encode()).digest(_ROUNDS * side * _BYTES)
    size = side * _BYTES
    return tuple(_integers(stream[start : start + size]) for start in range(0, _ROUNDS * size, size))


def _integers(stream: bytes) -> Sequence[int]:
    numbers = array("I", stream)
    assert numbers.itemsize == _BYTES
    return numbers
