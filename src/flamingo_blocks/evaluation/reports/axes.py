"""Where values lie on an axis, and where labels find room."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From values to places.

    Args:
        low: Value at the start.
        high: Value at the end.
        start: Place of `low`.
        end: Place of `high`.

    Example:
        >>> Scale(low=0, high=10, start=100, end=0)(2.5)
        75.0
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Round values around a range: the first is not above it, the last not below.

    Args:
        low: Its lower end.
        high: Its upper end.
        most: How many steps there are at most.

    Example:
        >>> ticks(41.2, 57.1)
        [40.0, 45.0, 50.0, 55.0, 60.0]
    """
    if high - low < 1e-6 * max(1.0, abs(low)):  # one value: something around it
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** floor(log10((high - low) / most))
    for step in (power, 2 * power, 2.5 * power, 5 * power, 10 * power, 20 * power):
        first, last = floor(low / step), ceil(high / step)
        if last - first <= most:
            break
    return [round(number * step, 10) for number in range(first, last + 1)]


def spread(places: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Places that are moved apart, as little as a simple rule can, so that labels there do not overlap.

    Args:
        places: Where the labels would like to be.
        gap: Least distance of two.
        low: None goes below it.
        high: None goes above it, if there is room for all.

    Returns:
        Where they go, in the order that they came in.

    Example:
        >>> spread([10, 11, 50], gap=5, low=0, high=60)
        [10, 15, 50]
    """
    order = sorted(range(len(places)), key=lambda at: places[at])
    found = list(places)
    least = low
    for at in order:
        found[at] = least = max(found[at], least)
        least += gap
    most = high
    for at in reversed(order):
        found[at] = most = min(found[at], most)
        most -= gap
    least = low
    for at in order:  # where there is no room for all, the last ones leave the range
        found[at] = least = max(found[at], least)
        least += gap
    return found
