"""Pictures of digits: handwritten ones where scikit-learn is installed, else digits of seven bars."""

from functools import cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.errors import MissingDependencyError
from flamingo_blocks.evaluation.synthetic.choices import Choices
from flamingo_blocks.evaluation.synthetic.pictures import choose_ground
from flamingo_blocks.evaluation.synthetic.shapes import draw_ground

Writing = Literal["handwritten", "bars"]
Side = Literal["query", "support"]
_Glyph = Float[Tensor, "_ _"]  # a picture has glyphs of several sizes

# Which of its bars a digit has: top, upper left, upper right, middle, lower left, lower right, bottom.
_BARS = ("1110111", "0010010", "1011101", "1011011", "0111010", "1101011", "1101111", "1010010", "1111111", "1111011")
_QUESTION_MARK = ("01110", "10001", "00001", "00110", "00100", "00000", "00100")


def writing_of(writing: Writing | None) -> Writing:
    """How digits are written: as asked, or by hand if scikit-learn is there.

    Args:
        writing: `"handwritten"`, `"bars"`, or None for the better one that there is.

    Raises:
        ValueError: If it is another word.
        MissingDependencyError: If handwritten digits are asked for, and scikit-learn is not installed.
    """
    if writing not in {None, *get_args(Writing)}:
        raise ValueError(f"digits is {writing!r}, wanted 'handwritten', 'bars' or None")
    if writing == "bars":
        return "bars"
    try:
        _handwritten()
    except MissingDependencyError:
        if writing is None:
            return "bars"
        raise
    return "handwritten"


def picture_of_digit(
    digit: int, choices: Choices, *, size: int, side: Side, writing: Writing
) -> UInt8[Tensor, "3 size size"]:
    """One digit, somewhere.

    Args:
        digit: 0 to 9.
        choices: Those of the picture.
        size: Its side in pixels.
        side: Digits of queries and of support are written by different hands.
        writing: As `writing_of` gives it.
    """
    return _ink([(_glyph(digit, choices, 0, side, writing), 0.5, 0.7)], choices, size)


def picture_of_expression(
    digits: tuple[int, int], choices: Choices, *, size: int, side: Side, writing: Writing
) -> UInt8[Tensor, "3 size size"]:
    """Two digits with a question mark between them.

    Args:
        digits: 0 to 9 each.
        choices: Those of the picture.
        size: Its side in pixels.
        side: As for `picture_of_digit`.
        writing: As `writing_of` gives it.
    """
    left, right = (_glyph(digit, choices, place, side, writing) for place, digit in enumerate(digits))
    mark = torch.tensor([[float(bit) for bit in row] for row in _QUESTION_MARK], dtype=torch.float64)
    return _ink([(left, 0.2, 0.36), (mark, 0.5, 0.2), (right, 0.8, 0.36)], choices, size)


def _ink(glyphs: list[tuple[_Glyph, float, float]], choices: Choices, size: int) -> UInt8[Tensor, "3 size size"]:
    """Glyphs, each with where its middle is from the left and how high it is, in shares of the side."""
    top, bottom = choose_ground(choices)
    picture = draw_ground(top, bottom, height=size, width=size).double()
    ink = 25.0 if sum(top) > 3 * 128 else 230.0
    for number, (glyph, middle, height) in enumerate(glyphs):
        tall = max(4, round(size * height * choices.between(0.85, 1.0, "height", number)))
        wide = max(3, round(tall * glyph.shape[1] / glyph.shape[0]))
        grown = F.interpolate(glyph[None, None], (tall, wide), mode="bilinear", align_corners=False)[0, 0]
        first_row = round(choices.between(0.25, 0.75, "row", number) * (size - tall))
        first_column = min(max(0, round(middle * size - wide / 2)), size - wide)
        part = picture[:, first_row : first_row + tall, first_column : first_column + wide]
        part += (ink - part) * grown
    return picture.round().clamp(0, 255).to(torch.uint8)


def _glyph(digit: int, choices: Choices, place: int, side: Side, writing: Writing) -> _Glyph:
    if writing == "bars":
        return _bars(digit)
    return _handwritten()[0][choices.one(_rows_of(digit, side), "hand", place)]


@cache
def _rows_of(digit: int, side: Side) -> tuple[int, ...]:
    """A digit belongs to queries or to support by a hash of its own, whatever the seed of the task."""
    rows = (_handwritten()[1] == digit).nonzero()[:, 0].tolist()
    return tuple(row for row in rows if Choices("handwritten", 0, str(row)).one(("query", "support"), "side") == side)


@cache
def _handwritten() -> tuple[Float[Tensor, "images 8 8"], Int[Tensor, " images"]]:
    loaded = require("sklearn.datasets", used_by="synthetic_task", extra="demo").load_digits()
    return torch.from_numpy(loaded.images).double() / 16, torch.from_numpy(loaded.target).long()


@cache
def _bars(digit: int) -> _Glyph:
    """Bars of two pixels in a frame of 18 x 12."""
    glyph = torch.zeros(18, 12, dtype=torch.float64)
    places = (
        (slice(1, 3), slice(2, 10)),
        (slice(2, 9), slice(1, 3)),
        (slice(2, 9), slice(9, 11)),
        (slice(8, 10), slice(2, 10)),
        (slice(9, 16), slice(1, 3)),
        (slice(9, 16), slice(9, 11)),
        (slice(15, 17), slice(2, 10)),
    )
    for bit, place in zip(_BARS[digit], places, strict=True):
        if bit == "1":
            glyph[place] = 1.0
    return glyph
