"""Images of a document, each looked at by itself."""

from collections.abc import Callable
from typing import Literal

from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered
from flamingo_blocks.data.filters.image_gate import ImageGate, SingleColour
from flamingo_blocks.data.without_parts import without_parts

_DEFAULT_GATE, _DEFAULT_COLOUR = ImageGate(), SingleColour()


class DocumentImages:
    r"""Take the images out of a document that are not worth keeping, and drop it when too few are left.

    Images whose `data` are the bytes of a file are looked at; pictures and clips are kept as they are. The texts around
    an image that goes become one, with the end of a paragraph between them.

    Args:
        gate: Looks at the header of each file; `None` looks at none.
        single_colour: Looks at a small copy of what `gate` keeps; `None` looks at none.
        min_images: Fewest images of a document; clips do not count.
        max_images: Most of them; any number by default.
        without_data: What becomes of images that were not fetched: `"drop"`, or `"keep"` for a look before fetching.

    Raises:
        ValueError: If a number or `without_data` is none of these.

    Example:
        >>> from PIL import Image
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (40, 40)).save(file, "PNG")
        >>> page = InterleavedDocument.from_parts(["Tom", file.getvalue(), "sleeps"])
        >>> DocumentImages()(page)
        Dropped(reason='no_images', detail='0 images left of 1, wanted 1 or more')
        >>> DocumentImages(min_images=0)(page).segments
        (TextSegment(text='Tom\n\nsleeps'),)

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1: images that are small, long or of a single colour go, and then pages
        without images. OBELICS (arXiv 2306.16527) keeps documents of 1 to 30.
    """

    reasons = ("no_images", "too_few_images", "too_many_images")
    item_reasons = ("not_fetched", *ImageGate.reasons, "image_single_colour")

    def __init__(
        self,
        gate: ImageGate | None = _DEFAULT_GATE,
        single_colour: SingleColour | None = _DEFAULT_COLOUR,
        *,
        min_images: int = 1,
        max_images: int | None = None,
        without_data: Literal["drop", "keep"] = "drop",
    ) -> None:
        if min_images < 0 or (max_images is not None and max_images < min_images):
            raise ValueError(f"min_images is {min_images} and max_images {max_images}, wanted 0 <= min <= max")
        if without_data not in ("drop", "keep"):
            raise ValueError(f"without_data is {without_data!r}, wanted 'drop' or 'keep'")
        self.gate, self.single_colour, self.without_data = gate, single_colour, without_data
        self.min_images, self.max_images = min_images, max_images

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep what is left of a document, or say why not."""
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and why each image that was taken out of it was.

        Args:
            document: Any.
        """
        left, removed = without_images(document, self.look)
        return Filtered(self._judge_number(left, len(removed)) or left, removed)

    def look(self, image: ImageSegment) -> Dropped | None:
        """Why an image is not kept; `None` where it is.

        Args:
            image: Of a document.
        """
        if image.data is None and self.without_data == "drop":
            return Dropped("not_fetched", image.url or "")
        if not isinstance(image.data, bytes):
            return None
        if self.gate is not None and isinstance(facts := self.gate.look(image.data), Dropped):
            return facts
        return None if self.single_colour is None else self.single_colour.look(image.data)

    def _judge_number(self, left: InterleavedDocument, removed: int) -> Dropped | None:
        number = sum(isinstance(segment, ImageSegment) for segment in left.segments)
        told = f"{number} images left of {number + removed}, wanted"
        if number < self.min_images:
            reason = "too_few_images" if number else "no_images"
            return Dropped(reason, f"{told} {self.min_images} or more")
        if self.max_images is not None and number > self.max_images:
            return Dropped("too_many_images", f"{told} {self.max_images} at most")
        return None


def without_images(
    document: InterleavedDocument, look: Callable[[ImageSegment], Dropped | None]
) -> tuple[InterleavedDocument, tuple[Dropped, ...]]:
    """A document without the images that somebody has something against.

    Args:
        document: Any.
        look: Why an image goes; `None` where it stays.

    Returns:
        The very document if nothing goes, and why each image went.
    """
    reasons = {place: why for place, segment in enumerate(document.segments)
               if isinstance(segment, ImageSegment) and (why := look(segment)) is not None}  # fmt: skip
    if not reasons:
        return document, ()
    return without_parts(document, dict.fromkeys(reasons)), tuple(reasons.values())
