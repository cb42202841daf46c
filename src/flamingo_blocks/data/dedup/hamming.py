"""Pairs of hashes that differ in few bits, all of them."""

from collections.abc import Iterator
from typing import Any

from flamingo_blocks._optional import require

BANDS = 4
BAND_BITS = 16
MAX_BITS = BANDS - 1  # more, and two hashes can differ in each band
BLOCK = 1 << 22  # pairs that are compared at a time, 32 MB
LARGE = 4096  # hashes that share a band, beyond which they are told apart by a second one


def near_pairs(hashes: Any, bits: int) -> Iterator[tuple[Any, Any]]:
    """All pairs that differ in at most so many bits, some at a time; a pair may come more than once.

    Two hashes that differ in 3 bits have one of 4 bands of 16 bits in common. Of those that share a band only pairs
    are compared; what many hashes share is divided again by the bits that are left, in the same way.

    Args:
        hashes: Different numbers of 64 bits, in an array.
        bits: 0 to 3.

    Yields:
        Two arrays of places.
    """
    np = require("numpy", used_by="ImageNearDuplicates", extra="data")
    for band in range(BANDS):
        shift = np.uint64(band * BAND_BITS)
        shared = (hashes >> shift) & np.uint64(2**BAND_BITS - 1)
        for places in _groups(np, shared):
            if len(places) <= LARGE:
                yield from _compared(np, hashes, places, bits)
                continue
            rest = _without_band(np, hashes[places], band)
            for part in range(BANDS):  # 48 bits are left, 12 in each part
                for some in _groups(np, (rest >> np.uint64(12 * part)) & np.uint64(2**12 - 1)):
                    yield from _compared(np, hashes, places[some], bits)


def _groups(np: Any, values: Any) -> Iterator[Any]:
    """Places of equal values, for each value that stands in two places or more."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    ends = np.concatenate((starts[1:], [len(order)]))
    several = np.flatnonzero(ends - starts > 1)
    for start, end in zip(starts[several].tolist(), ends[several].tolist(), strict=True):
        yield order[start:end]


def _without_band(np: Any, hashes: Any, band: int) -> Any:
    """The 48 bits beside a band."""
    low = hashes & np.uint64(2 ** (band * BAND_BITS) - 1)
    if band == BANDS - 1:
        return low
    return low | (hashes >> np.uint64((band + 1) * BAND_BITS)) << np.uint64(band * BAND_BITS)


def _compared(np: Any, hashes: Any, places: Any, bits: int) -> Iterator[tuple[Any, Any]]:
    """The near ones of all pairs of some places, a block of them at a time."""
    values = hashes[places]
    step = max(1, BLOCK // len(places))
    for first in range(0, len(places), step):
        block = values[first : first + step, None]
        one, other = np.nonzero(_num_bits(np, block ^ values[None, first:]) <= bits)
        later = one < other
        yield places[first + one[later]], places[first + other[later]]


def _num_bits(np: Any, values: Any) -> Any:
    """How many bits are set."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(values)
    ones = np.array([number.bit_count() for number in range(256)], np.uint8)  # before numpy 2
    return ones[values[..., None].view(np.uint8)].sum(-1, dtype=np.uint8)
