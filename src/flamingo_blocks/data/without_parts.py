"""A document without some of its parts."""

from collections.abc import Mapping
from dataclasses import replace

from flamingo_blocks.data.documents import InterleavedDocument, Segment, TextSegment

PARAGRAPH = "\n\n"


def without_parts(document: InterleavedDocument, changed: Mapping[int, Segment | None]) -> InterleavedDocument:
    r"""A document without some of its segments, or with others in their place.

    Texts that come together are parted as paragraphs, for people read them so: no word is made of two.

    Args:
        document: Any.
        changed: By the number of a segment: what stands in its place, or `None` where nothing is left of it.

    Example:
        >>> page = InterleavedDocument.from_parts(["Tom", b"...", "sleeps"])
        >>> without_parts(page, {1: None}).text
        'Tom\n\nsleeps'
    """
    kept: list[Segment] = []
    cut = False  # something was taken away behind the last segment that is kept
    for number, segment in enumerate(document.segments):
        left = changed.get(number, segment)
        if left is None:
            cut = True
            continue
        before = kept[-1] if kept else None
        if cut and isinstance(left, TextSegment) and isinstance(before, TextSegment):
            kept[-1] = TextSegment(PARAGRAPH.join(text for text in (before.text, left.text) if text))
        else:
            kept.append(left)
        cut = False
    return replace(document, segments=tuple(kept))
