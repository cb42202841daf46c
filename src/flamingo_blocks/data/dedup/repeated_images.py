"""Images that stand more than once in one document."""

from flamingo_blocks.data.dedup.parts import Part, image_urls, images, without
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered


class RepeatedImages:
    r"""Keep the first place of each image of a document: told by its address, or by its bytes where it has them.

    It needs to see no other document, so it can stand in a `FilterChain`.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> cat = ImageSegment(url="https://ex.com/cat.jpg")
        >>> document = InterleavedDocument.from_parts([cat, "A cat.", cat, "The same cat."])
        >>> [segment.text for segment in RepeatedImages()(document).segments[1:]]
        ['A cat.\n\nThe same cat.']

    Source:
        OBELICS (arXiv 2306.16527), section A.1.5.
    """

    reasons = ()
    item_reasons = ("repeated_image",)

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """A document without the repeats; none is dropped.

        Args:
            document: Any.
        """
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """A document without the repeats, and one reason for each of them.

        Args:
            document: Any.
        """
        keys: dict[int, set[tuple[str, int]]] = {}
        places: dict[int, Part] = {}
        for of, parts in (("url", image_urls("", document)), ("content", images("", document))):
            for part in parts:
                keys.setdefault(part.segment, set()).add((of, part.key))
                places[part.segment] = part
        seen: set[tuple[str, int]] = set()
        gone = []
        for segment in sorted(keys):
            if seen & keys[segment]:  # what goes is not seen: a third image may be like it, and unlike the first
                gone.append(places[segment])
            else:
                seen |= keys[segment]
        left = without(document, gone) if gone else document
        return Filtered(left, tuple(Dropped(self.item_reasons[0]) for _ in gone))
