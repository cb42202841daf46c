"""Parts are taken out of documents, and nothing else changes."""

from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment, InterleavedDocument, TextSegment
from flamingo_blocks.data.without_parts import without_parts

SEGMENTS = st.lists(st.sampled_from("abc").map(TextSegment) | st.just(ImageSegment(url="https://ex.com/")), max_size=7)


@given(SEGMENTS, st.sets(st.integers(0, 6)))
def test_texts_come_together_only_where_something_stood_between(segments, places):
    """Those that stood side by side before stay two; those that meet now are one, parted as paragraphs."""
    gone = {place for place in places if place < len(segments)}
    found = without_parts(InterleavedDocument(tuple(segments)), dict.fromkeys(gone)).segments
    expected = []
    for place, segment in enumerate(segments):
        if place in gone:
            continue
        last = max((k for k in range(place) if k not in gone), default=-1)
        meet = 0 <= last < place - 1 and isinstance(segment, TextSegment) and isinstance(segments[last], TextSegment)
        if meet:
            expected[-1] = TextSegment(f"{expected[-1].text}\n\n{segment.text}")
        else:
            expected.append(segment)
    assert found == tuple(expected)


def test_another_part_may_stand_in_its_place():
    """And an empty text leaves no gap behind."""
    document = InterleavedDocument.from_parts(["a", ImageSegment(url="u"), "b"])
    assert without_parts(document, {1: TextSegment("c")}).text == "acb"
    assert without_parts(document, {0: TextSegment(""), 1: None}).text == "b"
