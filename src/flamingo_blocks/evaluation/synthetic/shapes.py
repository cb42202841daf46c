"""Coloured shapes on a plain ground, drawn in torch, pixel by pixel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

COLOURS = {
    "red": (215, 45, 45),
    "green": (40, 165, 70),
    "blue": (50, 90, 220),
    "yellow": (235, 200, 40),
    "purple": (150, 60, 185),
    "cyan": (60, 200, 205),
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")

_Point = tuple[float, float]
_STEPS = 3  # a pixel is looked at in as many rows and columns, so that edges are smooth


@dataclass(frozen=True)
class Thing:
    """What can be told apart in a picture: a colour and a shape.

    Args:
        colour: A key of `COLOURS`.
        shape: One of `SHAPES`.
    """

    colour: str
    shape: str

    @property
    def words(self) -> tuple[str, str]:
        """Colour and shape, as facts of an item have them."""
        return (self.colour, self.shape)


THINGS = tuple(Thing(colour, shape) for colour in COLOURS for shape in SHAPES)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A thing at its place, in shares of the side of a picture.

    Args:
        thing: What it is.
        x: Of its middle, from the left.
        y: Of its middle, from the top.
        radius: Of the circle that it fills.
        turn: By which it is turned, in radians.
        shade: Added to the three channels of its colour.
    """

    thing: Thing
    x: float
    y: float
    radius: float
    turn: float = 0.0
    shade: tuple[int, int, int] = (0, 0, 0)


def draw_ground(top: Sequence[int], bottom: Sequence[int], *, height: int, width: int) -> Int[Tensor, "3 height width"]:
    """A ground that goes over from one colour to another.

    Args:
        top: Colour of the first row, 0 to 255.
        bottom: Colour of the last row.
        height: In pixels.
        width: In pixels.
    """
    first, last = torch.tensor(list(top)), torch.tensor(list(bottom))
    rows = torch.arange(height)
    most = max(height - 1, 1)
    blended = (first[:, None] * (most - rows) + last[:, None] * rows) // most
    return blended[:, :, None].repeat(1, 1, width)


def draw_shapes(things: Sequence[Placed], ground: Int[Tensor, "3 height width"]) -> UInt8[Tensor, "3 height width"]:
    """Things on a ground, the later ones over the earlier.

    Args:
        things: With their places.
        ground: As `draw_ground` gives it.

    Example:
        >>> ground = draw_ground((0, 0, 0), (0, 0, 0), height=8, width=8)
        >>> square = Placed(thing=Thing("red", "square"), x=0.5, y=0.5, radius=0.5)
        >>> draw_shapes([square], ground)[:, 4, 4].tolist()
        [215, 45, 45]
    """
    picture = ground.clone()
    size = picture.shape[1]
    for placed in things:
        reach = placed.radius * size + 1
        rows, columns = (
            slice(max(0, math.floor(middle * size - reach)), min(length, math.ceil(middle * size + reach)))
            for middle, length in zip((placed.y, placed.x), picture.shape[1:], strict=True)
        )
        covered = _coverage(placed, size, rows, columns)
        colour = torch.tensor(COLOURS[placed.thing.colour]) + torch.tensor(placed.shade)
        behind = picture[:, rows, columns]
        whole = _STEPS**2
        mixed = (behind * (whole - covered) + colour[:, None, None] * covered + whole // 2) // whole
        picture[:, rows, columns] = mixed
    return picture.clamp(0, 255).to(torch.uint8)


def _coverage(placed: Placed, size: int, rows: slice, columns: slice) -> Int[Tensor, "height width"]:
    """How many of the points of each pixel lie in the shape."""
    y, x = (
        (torch.arange(part.start * _STEPS, part.stop * _STEPS, dtype=torch.float64) + 0.5) / (_STEPS * size) - middle
        for part, middle in ((rows, placed.y), (columns, placed.x))
    )
    cosine, sine = math.cos(placed.turn) / placed.radius, math.sin(placed.turn) / placed.radius
    inside = _inside(placed.thing.shape, x * cosine + y[:, None] * sine, y[:, None] * cosine - x * sine)
    split = inside.view(rows.stop - rows.start, _STEPS, columns.stop - columns.start, _STEPS)
    return split.sum(dim=(1, 3))


def _inside(shape: str, x: Float[Tensor, "h w"], y: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    if shape in {"circle", "ring"}:
        square = x * x + y * y
        return (square <= 1) & (square >= (0.3 if shape == "ring" else 0.0))
    corners = _CORNERS[shape]
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (x1, y1), (x2, y2) in pairwise((*corners, corners[0])):
        if y1 != y2:  # a ray to the left crosses this edge
            inside ^= ((y1 > y) != (y2 > y)) & (x > (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def _on_circle(count: int, *, start: float, radii: Sequence[float] = (1.0,)) -> tuple[_Point, ...]:
    angles = [start + 2 * math.pi * place / count for place in range(count)]
    return tuple(
        (radii[place % len(radii)] * math.cos(angle), radii[place % len(radii)] * math.sin(angle))
        for place, angle in enumerate(angles)
    )


def _cross(arm: float = 0.95, half: float = 0.32) -> tuple[_Point, ...]:
    quarter: tuple[_Point, ...] = ((half, -arm), (half, -half), (arm, -half))
    corners: list[_Point] = []
    for _ in range(4):
        corners += quarter
        quarter = tuple((-y, x) for x, y in quarter)
    return tuple(corners)


_UP = -math.pi / 2
_CORNERS: dict[str, tuple[_Point, ...]] = {
    "square": _on_circle(4, start=math.pi / 4),
    "triangle": _on_circle(3, start=_UP),
    "star": _on_circle(10, start=_UP, radii=(1.0, 0.42)),
    "cross": _cross(),
}
