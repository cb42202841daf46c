"""The parts of a document that duplicates are looked for among, each with the key of its content."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from flamingo_blocks.data.addresses import address, host
from flamingo_blocks.data.dedup.canonical_text import canonical_text
from flamingo_blocks.data.dedup.keys import image_key, text_key
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument, Segment, TextSegment
from flamingo_blocks.data.without_parts import PARAGRAPH, without_parts

PartName = Literal["document", "image", "image_url", "paragraph"]


@dataclass(frozen=True)
class Part:
    """Where a part stands: the number of its segment, the number of its paragraph in that, and its key."""

    segment: int
    paragraph: int
    key: int


def images(_: str, document: InterleavedDocument) -> Iterator[Part]:
    """Images by what they hold; those that are not fetched are passed over."""
    for number, segment in enumerate(document.segments):
        if isinstance(segment, ImageSegment) and (key := image_key(segment)) is not None:
            yield Part(number, 0, key)


def image_urls(_: str, document: InterleavedDocument) -> Iterator[Part]:
    """Images by their address."""
    for number, segment in enumerate(document.segments):
        if isinstance(segment, ImageSegment) and (url := address(segment.url)) is not None:
            yield Part(number, 0, text_key(url))


def paragraphs(_: str, document: InterleavedDocument) -> Iterator[Part]:
    """Paragraphs by their words and the host of the page; pages that tell none are passed over."""
    name = host(document.metadata.get("url"))
    if name is None:
        return
    for number, segment in enumerate(document.segments):
        if isinstance(segment, TextSegment):
            for place, paragraph in enumerate(segment.text.split(PARAGRAPH)):
                if words := canonical_text(paragraph):
                    yield Part(number, place, text_key(f"{name} {words}"))


def whole(key: str, _: InterleavedDocument) -> Iterator[Part]:
    """The document itself, by the key that the caller gave it."""
    yield Part(0, 0, text_key(key))


PARTS: dict[PartName, Callable[[str, InterleavedDocument], Iterator[Part]]] = {
    "document": whole, "image": images, "image_url": image_urls, "paragraph": paragraphs,
}  # fmt: skip


def without(document: InterleavedDocument, gone: Collection[Part]) -> InterleavedDocument:
    """A document without some of its images and paragraphs.

    Texts that become neighbours are paragraphs apart, as they were before.

    Args:
        document: Any.
        gone: Parts of it.
    """
    places: dict[int, set[int]] = {}
    for part in gone:
        places.setdefault(part.segment, set()).add(part.paragraph)
    return without_parts(document, {number: _left_of(document.segments[number], places[number]) for number in places})


def _left_of(segment: Segment, gone: Collection[int]) -> Segment | None:
    """What is left of a segment without some paragraphs; of anything but text nothing is."""
    if not isinstance(segment, TextSegment):
        return None
    paragraphs = enumerate(segment.text.split(PARAGRAPH))
    text = PARAGRAPH.join(paragraph for place, paragraph in paragraphs if place not in gone and paragraph)
    return TextSegment(text) if text else None
