"""Two builds that would differ are told apart by what is written down of them."""

import json

import pytest

from flamingo_blocks.data.filters import (
    DocumentImages,
    ExplicitContent,
    FilterChain,
    GopherQuality,
    GopherRepetition,
    ImageGate,
    Language,
    LimitedText,
    SingleColour,
    TextLimits,
)
from flamingo_blocks.data.pipeline import PageStep, page_step
from flamingo_blocks.data.pipeline.plain_values import plain_values
from flamingo_blocks.data.sources import FolderFetcher

FILTERS = {
    "language": (Language("en"), Language("de")),
    "confidence": (Language("en"), Language("en", min_confidence=0.5)),
    "words": (GopherQuality(), GopherQuality(min_words=3)),
    "repetition": (GopherRepetition(), GopherRepetition(max_lines=0.9)),
    "gate": (DocumentImages(), DocumentImages(ImageGate(min_side_px=65))),
    "colour": (DocumentImages(), DocumentImages(single_colour=SingleColour(min_deviation=3.0))),
    "number": (DocumentImages(), DocumentImages(min_images=2)),
    "limits": (LimitedText(TextLimits(min_words=1)), LimitedText(TextLimits(min_words=2))),
    "bad words": (ExplicitContent(None, words=["a"]), ExplicitContent(None, words=["b"])),
}


@pytest.mark.parametrize("name", FILTERS)
def test_another_option_of_a_filter_is_another_configuration(name):
    """Nothing that decides a filter is passed over, and JSON holds all of it."""
    first, second = (json.dumps(PageStep(before=FilterChain([keep])).config, allow_nan=False) for keep in FILTERS[name])
    assert first != second


def test_every_preset_is_told(tmp_path):
    """Also where a limit is none, which JSON has no number for."""
    fetcher = FolderFetcher(tmp_path)
    steps = [page_step(name, fetcher=fetcher) for name in ("m3w", "obelics", "none")]
    assert len({json.dumps(step.config, allow_nan=False) for step in steps}) == 3


def test_where_the_data_stand_does_not_matter(tmp_path):
    """A folder may move: its name is told, and not the way there."""
    for parent in ("a", "b"):
        (tmp_path / parent / "pages").mkdir(parents=True)
    first, second = (PageStep(fetcher=FolderFetcher(tmp_path / parent / "pages")).config for parent in ("a", "b"))
    assert first == second


def test_values_of_one_set_have_one_order():
    """Sets and mappings are told in the same order in every process."""
    assert plain_values({"b": {3, 1, 2}, "a": frozenset("zy")}) == {"a": ["y", "z"], "b": [1, 2, 3]}


@pytest.mark.usefixtures("without_shape_checks")
def test_a_preset_that_is_none_is_refused():
    """By its name and those there are."""
    with pytest.raises(ValueError, match="preset is 'm4w', wanted 'm3w', 'obelics' or 'none'"):
        page_step("m4w")
