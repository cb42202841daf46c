"""Images of a page before they are fetched: by their address, and by the size that the page declares."""

import re
from collections.abc import Collection, Sequence

from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered
from flamingo_blocks.data.filters.document_images import without_images

ITEM_WORDS = ("logo", "button", "icon", "plugin", "widget", "avatar", "sprite")
DOCUMENT_WORDS = ("porn", "xxx")


class UrlWords:
    """Take out images by words in their addresses: what is called a logo or an icon is no picture of the page.

    Words count wherever they stand in the address, be it within another word: `/img/mylogo2.png` holds `logo`.

    Args:
        item: Words that an image goes for.
        document: Words for which the document goes with it, such as `("avatar", "porn", "xxx")`; none by default.

    Raises:
        ValueError: If a word is empty.

    Example:
        >>> page = InterleavedDocument.from_parts([ImageSegment(url="https://ex.com/Logo-big.png"), "Tom"])
        >>> UrlWords()(page).media
        ()
        >>> UrlWords(document=("logo",))(page).reason
        'url_word'

    Source:
        OBELICS (arXiv 2306.16527) names `item`. MINT-1T (arXiv 2406.11271) drops documents for "logo", "avatar",
        "porn" and "xxx".
    """

    reasons = ("url_word",)
    item_reasons = ("url_word",)

    def __init__(self, item: Collection[str] = ITEM_WORDS, *, document: Collection[str] = ()) -> None:
        self.item, self.document = _words(item), _words(document)

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep what is left of a document, or say why not."""
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and why each image that was taken out of it was.

        Args:
            document: Any.
        """
        if self.document is not None:
            for segment in document.segments:
                if isinstance(segment, ImageSegment) and (found := _found(self.document, segment)) is not None:
                    return Filtered(found)
        return Filtered(*without_images(document, lambda image: _found(self.item, image)))


class DeclaredSize:
    """Take out images by the width and height that their page declares, before anybody fetches them.

    What is not declared, or in percents, is kept: its file will tell.

    Args:
        min_px: Least width and height.
        max_px: Largest ones; any by default.
        max_ratio: Longer by shorter side, at most, where both are declared.

    Example:
        >>> small = ImageSegment(url="https://ex.com/tom.jpg", metadata={"declared_width": 40})
        >>> DeclaredSize()(InterleavedDocument.from_parts(["Tom", small])).media
        ()

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1, for the numbers; OBELICS (arXiv 2306.16527) asks for 150 to 20,000
        pixels and a ratio of 2 of what is declared too.
    """

    reasons = ()
    item_reasons = ("declared_size", "declared_ratio")

    def __init__(self, *, min_px: int = 64, max_px: int | None = None, max_ratio: float = 3.0) -> None:
        self.min_px, self.max_px, self.max_ratio = min_px, max_px, max_ratio

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """What is left of a document."""
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and why each image that was taken out of it was.

        Args:
            document: Any.
        """
        return Filtered(*without_images(document, self.look))

    def look(self, image: ImageSegment) -> Dropped | None:
        """Why an image is not kept; `None` where it is.

        Args:
            image: Of a document.
        """
        sides = [image.metadata.get(f"declared_{side}") for side in ("width", "height")]
        known: Sequence[int] = sorted(side for side in sides if isinstance(side, int))
        most = float("inf") if self.max_px is None else self.max_px
        if any(not self.min_px <= side <= most for side in known):
            return Dropped("declared_size", f"{known} pixels, wanted {self.min_px} to {most}")
        if len(known) == 2 and known[1] > self.max_ratio * known[0]:
            return Dropped("declared_ratio", f"{known} pixels, wanted sides of {self.max_ratio:g}:1 at most")
        return None


def _words(words: Collection[str]) -> re.Pattern[str] | None:
    if not all(words):
        raise ValueError(f"words are {tuple(words)!r}, of which one is empty and stands in every address")
    return re.compile("|".join(map(re.escape, words)), re.IGNORECASE) if words else None


def _found(words: re.Pattern[str] | None, image: ImageSegment) -> Dropped | None:
    found = words.search(image.url or "") if words is not None else None
    return None if found is None else Dropped("url_word", f"{found[0]!r} in {image.url}"[:200])
