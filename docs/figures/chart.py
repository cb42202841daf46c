"""Axes, lines and points in a drawing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from docs.figures.svg import Drawing, Point

Mark = Literal["round", "cross", "none"]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Numbers along one side of a panel.

    Args:
        low: The number at its beginning.
        high: The number at its end.
        ticks: Numbers that are written, each with its words.
        title: What is counted.
        log: Whether equal steps are equal factors.
    """

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    log: bool = False

    def place(self, value: float) -> float:
        """Where a number stands: 0 at the beginning, 1 at the end."""
        low, high, value = (math.log(each) if self.log else each for each in (self.low, self.high, value))
        return (value - low) / (high - low)


def powers(numbers: Sequence[float], title: str, unit: Callable[[float], str]) -> Axis:
    """A logarithmic axis from the power of ten below the numbers to the one above them."""
    first, last = math.floor(math.log10(min(numbers))), math.ceil(math.log10(max(numbers)))
    last = max(last, first + 1)
    step = -(-(last - first) // 5)
    ticks = [(10.0**power, unit(10.0**power)) for power in range(first, last + 1, step)]
    return Axis(low=10.0**first, high=10.0**last, ticks=ticks, title=title, log=True)


def steps(words: Sequence[str], title: str) -> Axis:
    """Words at equal steps, 0, 1, 2 and so on."""
    return Axis(low=0, high=len(words) - 1, ticks=list(enumerate(words)), title=title)


def part(title: str) -> Axis:
    """From 0 to 1."""
    return Axis(low=0, high=1, ticks=[(tick / 5, f"{tick / 5:.1f}") for tick in range(6)], title=title)


class Panel:
    """Axes at a place of a drawing; what is drawn in them is told in numbers of the axes."""

    def __init__(
        self, drawing: Drawing, *, left: float, top: float, width: float, height: float, across: Axis, up: Axis
    ) -> None:
        self.drawing, self.across, self.up = drawing, across, up
        self.left, self.top, self.width, self.height = left, top, width, height
        for value, words in up.ticks:
            _, y = self.at(across.low, value)
            drawing.path([(left, y), (left + width, y)], stroke="faint", width=1)
            if words:
                drawing.text(left - 6, y + 4, words, anchor="end", colour="soft")
        drawing.path([(left, top), (left, top + height), (left + width, top + height)], width=1)
        for value, words in across.ticks:
            x, _ = self.at(value, up.low)
            drawing.path([(x, top + height), (x, top + height + 4)], width=1)
            drawing.text(x, top + height + 17, words, colour="soft")
        if across.title:
            drawing.text(left + width / 2, top + height + 34, across.title, colour="soft")
        if up.title:
            drawing.text(12, top + height / 2, up.title, colour="soft", turned=True)

    def at(self, x: float, y: float) -> Point:
        """The place of two numbers in the drawing."""
        return self.left + self.width * self.across.place(x), self.top + self.height * (1 - self.up.place(y))

    def line(
        self, points: Sequence[Point], colour: str, *, width: float = 2, dash: str | None = None, mark: Mark = "round"
    ) -> None:
        """A line through points, each with a mark."""
        places = [self.at(*point) for point in points]
        self.drawing.path(places, stroke=colour, width=width, dash=dash)
        for place in places:
            self.mark(place, colour, mark)

    def mark(self, place: Point, colour: str, mark: Mark, *, size: float = 3) -> None:
        """A mark at a place of the drawing."""
        x, y = place
        if mark == "round":
            self.drawing.add("circle", cx=x, cy=y, r=size, fill=f"var(--{colour})")
        elif mark == "cross":
            for sign in (1, -1):
                self.drawing.path([(x - size, y - sign * size), (x + size, y + sign * size)], stroke=colour)

    def band(self, low: Sequence[Point], high: Sequence[Point], colour: str) -> None:
        """The room between two lines."""
        places = [self.at(*point) for point in (*low, *reversed(high))]
        told = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        self.drawing.add("polygon", points=told, fill=f"var(--{colour})", fill_opacity="0.16")


def key(
    drawing: Drawing, y: float, entries: Sequence[tuple[str, str, str | None]], *, left: float = 12, step: float = 17,
    mark: bool = True,
) -> None:  # fmt: skip
    """What lines mean, one below the other: words, colour, dashes."""
    for row, (words, colour, dash) in enumerate(entries):
        middle = y + step * row
        drawing.path([(left, middle), (left + 28, middle)], stroke=colour, width=2, dash=dash)
        if mark:
            drawing.add("circle", cx=left + 14, cy=middle, r=3, fill=f"var(--{colour})")
        drawing.text(left + 36, middle + 4, words, anchor="start")
