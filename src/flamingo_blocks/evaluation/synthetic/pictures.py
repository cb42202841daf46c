"""Pictures of one thing, and of several, at places that are chosen by hashing."""

from collections.abc import Sequence

from jaxtyping import UInt8
from torch import Tensor

from flamingo_blocks.evaluation.synthetic.choices import Choices
from flamingo_blocks.evaluation.synthetic.shapes import Placed, Thing, draw_ground, draw_shapes

MIN_SIZE = 8
_CELLS = 3  # several things stand in a grid of so many rows and columns, one a cell
MOST_THINGS = _CELLS**2
_GAP = 0.012  # from the edge of a cell


def choose_ground(choices: Choices) -> tuple[list[int], list[int]]:
    """Colours of the first and the last row of a ground: a dark grey or a pale one, not quite even.

    Args:
        choices: Those of the picture.
    """
    low, high = choices.one([(15, 70), (195, 240)], "ground")
    top = [
        int(choices.between(low, high, "top")) + int(choices.between(-8, 9, "tint", channel)) for channel in range(3)
    ]
    slope = int(choices.between(-12, 13, "slope"))
    return top, [channel + slope for channel in top]


def picture_of_one(thing: Thing, choices: Choices, *, size: int) -> UInt8[Tensor, "3 size size"]:
    """One thing, somewhere, small or large.

    Args:
        thing: What it shows.
        choices: Those of the picture.
        size: Its side in pixels.
    """
    radius = choices.between(0.2, 0.38, "radius")
    x, y = (choices.between(radius, 1 - radius, axis) for axis in "xy")
    return _draw([_placed(thing, choices, 0, x=x, y=y, radius=radius)], choices, size)


def picture_of_several(things: Sequence[Thing], choices: Choices, *, size: int) -> UInt8[Tensor, "3 size size"]:
    """Up to nine things, none over another.

    Args:
        things: What it shows.
        choices: Those of the picture.
        size: Its side in pixels.
    """
    placed = []
    for number, (thing, cell) in enumerate(
        zip(things, choices.several(range(MOST_THINGS), len(things), "cells"), strict=True)
    ):
        radius = choices.between(0.09, 0.14, "radius", number)
        slack = 0.5 / _CELLS - radius - _GAP
        x, y = (
            (place + 0.5) / _CELLS + choices.between(-slack, slack, axis, number)
            for place, axis in zip((cell % _CELLS, cell // _CELLS), "xy", strict=True)
        )
        placed.append(_placed(thing, choices, number, x=x, y=y, radius=radius))
    return _draw(placed, choices, size)


def _placed(thing: Thing, choices: Choices, number: int, *, x: float, y: float, radius: float) -> Placed:
    red, green, blue = (int(choices.between(-14, 15, "shade", number, channel)) for channel in range(3))
    turn = choices.between(-0.3, 0.3, "turn", number)
    return Placed(thing=thing, x=x, y=y, radius=radius, turn=turn, shade=(red, green, blue))


def _draw(things: Sequence[Placed], choices: Choices, size: int) -> UInt8[Tensor, "3 size size"]:
    top, bottom = choose_ground(choices)
    return draw_shapes(things, draw_ground(top, bottom, height=size, width=size))
