"""Shapes as they are drawn: within their circle, of their colour, of their area."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.synthetic.choices import Choices
from flamingo_blocks.evaluation.synthetic.pictures import picture_of_one, picture_of_several
from flamingo_blocks.evaluation.synthetic.shapes import (
    COLOURS,
    SHAPES,
    THINGS,
    Placed,
    Thing,
    draw_ground,
    draw_shapes,
)

BLACK = draw_ground((0, 0, 0), (0, 0, 0), height=64, width=64)
# Shares of the circle of radius 1, by hand: the star of corners at 1 and 0.42 has 10 triangles.
AREAS = {
    "circle": math.pi,
    "ring": math.pi * 0.7,
    "square": 2.0,
    "triangle": 3 * math.sqrt(3) / 4,
    "star": 10 * 0.5 * 0.42 * math.sin(math.pi / 5),
    "cross": 4 * 0.95 * 0.64 - 0.64**2,
}


@pytest.mark.parametrize("shape", SHAPES)
@given(turn=st.floats(-3, 3), x=st.floats(0.35, 0.65), y=st.floats(0.35, 0.65))
def test_a_shape_has_its_area_and_stays_in_its_circle(shape, turn, x, y):
    """Covered pixels add up to the area of the shape, and none lies outside the circle, wherever it is turned to."""
    placed = Placed(thing=Thing("red", shape), x=x, y=y, radius=0.3, turn=turn)
    covered = draw_shapes([placed], BLACK)[0].double() / COLOURS["red"][0]
    assert float(covered.sum()) == pytest.approx(AREAS[shape] * (0.3 * 64) ** 2, rel=0.05)
    places = (torch.arange(64) + 0.5) / 64
    distance = ((places - x) ** 2 + (places[:, None] - y) ** 2).sqrt()
    assert not covered[distance > 0.3 + 1.5 / 64].any()


def test_no_two_things_are_drawn_alike():
    """Every colour and every shape is a picture of its own, at the same place."""
    drawn = {draw_shapes([Placed(thing=thing, x=0.5, y=0.5, radius=0.3)], BLACK).numpy().tobytes() for thing in THINGS}
    assert len(drawn) == len(THINGS) == len(COLOURS) * len(SHAPES)


def test_a_ground_goes_over_from_first_to_last_row():
    """The first and the last row have their colours, rows between lie between, and one row is the first."""
    ground = draw_ground((0, 100, 200), (10, 90, 200), height=11, width=2)
    assert ground[:, 0, 0].tolist() == [0, 100, 200]
    assert ground[:, -1, 1].tolist() == [10, 90, 200]
    assert ground[0, :, 0].tolist() == list(range(11))
    assert draw_ground((1, 2, 3), (9, 9, 9), height=1, width=1).flatten().tolist() == [1, 2, 3]


@given(seed=st.integers(0, 10**6), count=st.integers(1, 9))
def test_several_things_lie_apart(seed, count):
    """There are as many islands of colour as things: none touches another."""
    things = [Thing("red", "circle")] * count
    choices = Choices("test", seed, "picture")
    picture = picture_of_several(things, choices, size=96).int()
    spread = picture.amax(0) - picture.amin(0)
    assert count_of_islands(spread > 60) == count


def count_of_islands(mask):
    """Groups of pixels that touch, by taking one out after the other."""
    left, found = {tuple(place) for place in mask.nonzero().tolist()}, 0
    while left:
        found, edge = found + 1, [left.pop()]
        while edge:
            row, column = edge.pop()
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            edge += near
    return found


@given(seed=st.integers(0, 10**6), size=st.integers(8, 40))
def test_a_thing_is_whole_within_its_picture(seed, size):
    """Nothing is cut off at an edge: a picture twice as large, seen from as far, covers the same share."""
    choices = Choices("test", seed, "picture")
    shares = []
    for side in (64, 128):
        picture = picture_of_one(Thing("red", "circle"), choices, size=side).int()
        assert picture.shape == (3, side, side)
        shares.append(float(((picture[0] - picture[1]) > 60).float().mean()))
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert min(shares) > 0.8 * math.pi * 0.2**2
    assert picture_of_one(Thing("red", "circle"), choices, size=size).dtype == torch.uint8


@given(seed=st.integers(0, 10**6))
def test_choices_depend_on_their_key_alone(seed):
    """The same key and purpose give the same, whatever was chosen before; fewer are the first of more."""
    one, other = Choices("a", seed, "x"), Choices("a", seed, "x")
    other.one(range(5), "something else")
    assert one.several(range(20), 7, "some") == other.several(range(20), 20, "some")[:7]
    assert one.between(2, 3, "size") == other.between(2, 3, "size")
    assert 2 <= one.between(2, 3, "size") < 3
    assert one.several(range(20), 20, "some") != Choices("a", seed + 1, "x").several(range(20), 20, "some")
