"""Fifty pages as they are found, with what a person reads on them, written down beside each by hand."""

from pathlib import Path

import pytest

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.data.html import extract_page

PAGES = sorted((Path(__file__).parent / "hand_checked").glob("*.html"))


def test_there_are_fifty_pages():
    """None is lost, and each has its reading beside it."""
    assert len(PAGES) == 50
    assert all(page.with_suffix(".txt").is_file() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_text_and_images_are_those_that_a_person_reads_in_that_order(page):
    """The file beside a page tells its address and its segments, an image as `[address]`, each behind a line `--`."""
    url, *expected = page.with_suffix(".txt").read_text(encoding="utf-8").removesuffix("\n").split("\n--\n")
    document = extract_page(page.read_bytes(), url=url)
    found = [f"[{s.url}]" if isinstance(s, ImageSegment) else s.text for s in document.segments]
    assert found == expected
