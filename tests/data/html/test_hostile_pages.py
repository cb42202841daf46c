"""Pages that were made to hurt, or were hurt themselves: each is read, or dropped for a reason."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import InterleavedDocument
from flamingo_blocks.data.html import extract_page, guard_page

URL = "https://ex.com/"
NAMES = [f"a{k}" for k in range(100_000)]

DROPPED = {
    "nested blocks": ("<div>" * 100_000, "depth"),
    "nested blocks in the middle": ("<p>text</p>" * 50 + "<div>" * 4000 + "</div>" * 4000, "depth"),
    "formatting that is never closed": ("<b><p>x</p>" * 20_000, "depth"),
    "end tags of what is not open": ("<div></span>" * 10_000, "depth"),
    "end tags that the parser ignores": ("<span><div></span>" * 5_000, "depth"),
    "formatting around lists": ("<i><li>" * 5_000, "depth"),
    "closed by themselves, which HTML does not know": ("<div/>" * 5_000, "depth"),
    "attributes": (f"<p {' '.join(NAMES)}>", "attributes"),
    "attributes with values": ("<p " + " ".join(f"{name}=1" for name in NAMES[:2000]) + ">", "attributes"),
    "attributes with ends of tags in them": ("<p " + " ".join(f"{name}='>'" for name in NAMES[:2000]), "attributes"),
    "attributes with begins of tags in them": ("<p " + " ".join(f'{name}="<b"' for name in NAMES[:2000]), "attributes"),
    "attributes between slashes": (f"<p/{'/'.join(NAMES[:2000])}>", "attributes"),
    "attributes far inside": ("<b>x</b>" * 9000 + f"<p {' '.join(NAMES[:400])}>", "attributes"),
    "blocks behind a tag that begins like raw text": ("<title-x>" + "<div>" * 10_000, "depth"),
    "blocks behind a comment of nothing": ("<!-->" + "<div>" * 10_000, "depth"),
    "blocks behind a comment that ends oddly": ("<!-- --!>" + "<div>" * 10_000, "depth"),
    "attributes behind a tag that begins like raw text": (f"<style-x><p {' '.join(NAMES[:400])}>", "attributes"),
    "blocks in a title of a drawing": ("<svg><title>" + "<div>" * 10_000, "depth"),
    "images": ("".join(f"<img src=/{k}.jpg>" for k in range(2000)), "too_many_images"),
    "size": ("x" * 5_000_001, "too_large"),
    "a picture that is called a page": (bytes(range(128, 256)) * 100, "encoding"),
}


@pytest.mark.parametrize(("page", "reason"), DROPPED.values(), ids=DROPPED)
def test_what_would_hang_a_parser_is_dropped(page, reason):
    """Before the parser sees it."""
    found = extract_page(page, url=URL)
    assert getattr(found, "reason", None) == reason, found
    assert found.detail


READ = {
    "a tag that does not end": ("<p>a</p><img src=/x.jpg", 0),
    "a comment that does not end": ("<p>a</p><!-- <img src=/x.jpg>", 0),
    "a script that does not end": ("<p>a</p><script>x='<img src=/x.jpg>'", 0),
    "an entity that does not end": ("<p>a</p>&am", 0),
    "a value that does not end": ("<p>a</p><img src='/x.jpg>" + "<p>x</p>" * 99, 0),
    "quotes without a value": ("<p title=it's>a</p>" * 999 + "<img src=/x.jpg>", 1),
    "one attribute of a megabyte": (f"<p>a</p><img src='data:image/png;base64,{'A' * 1_000_000}' data-src=/x.jpg>", 1),
    "one script of two megabytes": (
        "<p>a<script>" + "if(a<b){e='<div>'}" * 90_000 + "</script><img src=/x.jpg>",
        1,
    ),
    "tags that close themselves": ("<p>a</p><svg>" + "<path d='M0'/>" * 20_000 + "</svg><img src=/x.jpg>", 1),
    "tags that do not nest": ("<ul>" + "<li>a" * 20_000 + "</ul><img src=/x.jpg>", 1),
    "tags of nobody": ("<my-tag>" * 2000 + "a<img src=/x.jpg>", 1),
    "depth that people write": ("<div>" * 500 + "a<img src=/x.jpg>", 1),
    "tables in tables": ("<table><tr><td>" * 300 + "a<img src=/x.jpg>", 1),
    "frames of nothing": ("<p>a" + "<p><b><i><u>" * 500 + "<img src=/x.jpg>", 1),
    "a width of ten thousand digits": (f"<p>a</p><img width={'9' * 10_000} src=/x.jpg>", 1),
    "a srcset of ten thousand digits": (f"<p>a</p><img srcset='/y.jpg {'9' * 10_000}w, /x.jpg 2w'>", 1),
    "NUL": ("<p>\0a\0</p>\0<img src=/x.jpg>", 1),
    "twice encoded": ("<p>a \u00e2\u20ac\u2122s</p><img src=/x.jpg>", 1),
}


@pytest.mark.parametrize(("page", "images"), READ.values(), ids=READ)
def test_what_is_odd_is_read(page, images):
    """The text stays, and so does the image behind it."""
    found = extract_page(page, url=URL)
    assert isinstance(found, InterleavedDocument), found
    assert "a" in found.text
    assert [image.url for image in found.media] == ["https://ex.com/x.jpg"] * images


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8", "latin-1"])
def test_noise_is_no_crash(encoding):
    """Bytes at random, and as the characters that they are."""
    for _ in range(20):
        noise = os.urandom(3000)
        for page in (noise, noise.decode(encoding, "replace"), b"<p>" + noise):
            found = extract_page(page, url=URL)
            assert isinstance(found, InterleavedDocument) or found.reason in ("encoding", "depth", "attributes")


PIECES = st.sampled_from(
    [
        "<p>", "</p>", "<b>", "<div", ">", "<", "=", "'", '"', " a", " b=c", "/", "<!--", "-->", "<script>",
        "é", "</script>", "<img src=x>", "<svg>", "</svg>", "<template>", "<table>", "<td>", "&amp;", "<noscript>",
        "<pre>\n", "<a href=y>",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=60).map("".join))
def test_any_pieces_of_markup_are_a_page(page):
    """Read, and given without an empty text."""
    found = extract_page(page, url=URL)
    assert isinstance(found, InterleavedDocument)
    assert all(getattr(segment, "text", "image") for segment in found.segments)


@given(st.lists(PIECES, max_size=40).map("".join), st.integers(1, 4), st.integers(1, 4))
def test_wider_limits_let_no_less_through(page, attributes, depth):
    """The guard is monotone in its limits."""
    if guard_page(page, max_attributes=attributes, max_depth=depth) is None:
        assert guard_page(page, max_attributes=attributes + 1, max_depth=depth) is None
        assert guard_page(page, max_attributes=attributes, max_depth=depth + 1) is None


@pytest.mark.parametrize(("number", "reason"), [(300, None), (301, "attributes")])
def test_short_attributes_count_as_well(number, reason):
    """As many as the default takes, and one more, in as few characters as can be."""
    names = [first + second for first in "abcdefghijklmnopqrst" for second in "abcdefghijklmnopqrst"]
    assert getattr(guard_page(f"<p {' '.join(names[:number])}>"), "reason", None) == reason


@given(st.integers(0, 12), st.integers(1, 12), st.sampled_from(["a{}", "a{}=b", "a{} = 'b c'", 'a{}=">"']))
def test_attributes_are_counted(number, most, form):
    """Whatever their values."""
    page = "<p>x</p><div " + " ".join(form.format(k) for k in range(number)) + ">y</div>" + "<i>" * 5
    for depth in (5, 1000):  # by every tag, and by long tags alone
        found = guard_page(page, max_attributes=most, max_depth=depth + 3)
        assert (found is not None and found.reason == "attributes") == (number > most)
