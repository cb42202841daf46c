"""Images that stand more than once in one document."""

from collections import Counter

from flamingo_blocks.data.dedup.parts import Part, image_urls, images, without
from flamingo_blocks.data.documents import InterleavedDocument


class RepeatedImages:
    r"""Keep the first place of each image of a document: told by its address, or by its bytes where it has them.

    It needs to see no other document.

    Example:
        >>> from flamingo_blocks.data import ImageSegment
        >>> cat = ImageSegment(url="https://ex.com/cat.jpg")
        >>> document = InterleavedDocument.from_parts([cat, "A cat.", cat, "The same cat."])
        >>> [segment.text for segment in RepeatedImages()(document).segments[1:]]
        ['A cat.\n\nThe same cat.']

    Source:
        OBELICS (arXiv 2306.16527), section A.1.5.
    """

    reasons = ("repeated_image",)

    def __call__(self, document: InterleavedDocument, *, counts: Counter[str] | None = None) -> InterleavedDocument:
        """A document without the repeats.

        Args:
            document: Any.
            counts: Where those that go are counted, by the reason.
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
        if not gone:
            return document
        if counts is not None:
            counts[self.reasons[0]] += len(gone)
        return without(document, gone)
