"""Interleaved documents: made of parts or of a tagged text, and merged."""

import pytest

from flamingo_blocks.data import ClipSegment, ImageSegment, InterleavedDocument, TextSegment


def test_parts_become_segments_by_their_kind():
    """Strings are text, lists and tuples clips, segments themselves, anything else an image."""
    named = ImageSegment(url="https://ex.com/1.jpg", alt="a cat")
    document = InterleavedDocument.from_parts(["a", b"png", [b"1", b"2"], (b"3",), named, TextSegment("b")])
    assert document.segments == (
        TextSegment("a"),
        ImageSegment(data=b"png"),
        ClipSegment(data=(b"1", b"2")),
        ClipSegment(data=(b"3",)),
        named,
        TextSegment("b"),
    )
    assert document.text == "ab"
    assert len(document.media) == 4


def test_a_tagged_text_takes_its_items_in_order():
    """Item k stands at tag k, and no empty text is left."""
    document = InterleavedDocument.from_tagged("<image><image>b", [b"1", [b"2"]])
    assert document.segments == (ImageSegment(data=b"1"), ClipSegment(data=(b"2",)), TextSegment("b"))


@pytest.mark.parametrize("count", [0, 2])
def test_tags_and_items_must_match(count):
    """The error gives both numbers."""
    with pytest.raises(ValueError, match=f"text has 1 tags '<image>' for {count} images"):
        InterleavedDocument.from_tagged("a <image>", [b"1"] * count)


def test_merging_keeps_order_and_metadata():
    """Texts side by side become one, empty ones go, and merging twice is merging once."""
    document = InterleavedDocument.from_parts(["", "a", "", "b", b"1", "", b"2", ""], metadata={"url": "u"})
    merged = document.merged()
    assert merged.segments == (TextSegment("ab"), ImageSegment(data=b"1"), ImageSegment(data=b"2"))
    assert merged.metadata == {"url": "u"}
    assert merged.merged() == merged
