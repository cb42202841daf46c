"""What people should not have to look at, by a judge that the user brings."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any, Literal

from flamingo_blocks._optional import require
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered
from flamingo_blocks.data.filters.document_images import without_images
from flamingo_blocks.data.filters.document_text import document_text
from flamingo_blocks.data.filters.image_gate import MAX_PIXELS, open_image, over_white, unreadable, with_alpha

ImageJudge = Callable[[Sequence[Any]], Sequence[float]]
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*")


class ExplicitContent:
    """Drop explicit content, as a judge of images and a list of words find it. Both are the user's: none is built in.

    Every classifier has its own idea of what is explicit, its own weights and its own licence. A list of words finds
    words; it knows nothing of what is said with them.

    Args:
        judge: Images of pillow in, RGB, upright and on white; one score each out, the higher the more explicit. `None`
            where only texts are to be looked at.
        threshold: Scores above it are explicit.
        scope: `"document"` drops a document for one image, as M3W and OBELICS do; `"item"` takes the image out.
        words: Words for which a document is dropped; whole ones, in any case.
        max_words: How many of them a document may have.

    Raises:
        ValueError: If there is neither judge nor words, or `scope` is none of these.

    Example:
        >>> judge = lambda images: [0.9 for _ in images]
        >>> from PIL import Image
        >>> page = InterleavedDocument.from_parts(["Tom", Image.new("RGB", (9, 9)), "sleeps"])
        >>> ExplicitContent(judge, threshold=0.8)(page)
        Dropped(reason='explicit_image', detail='score 0.90, wanted at most 0.8')
        >>> ExplicitContent(judge, threshold=0.8, scope="item")(page).media
        ()

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1, filters explicit images, videos and texts, by means of its own.
    """

    reasons = ("explicit_image", "explicit_text")
    item_reasons = ("explicit_image", "image_unreadable", "image_pixels", "not_fetched")

    def __init__(
        self,
        judge: ImageJudge | None,
        *,
        threshold: float = 0.5,
        scope: Literal["item", "document"] = "document",
        words: Collection[str] | None = None,
        max_words: int = 0,
    ) -> None:
        if judge is None and not words:
            raise ValueError("judge is None and words are none, so nothing would be looked at; give one of them")
        if scope not in ("item", "document"):
            raise ValueError(f"scope is {scope!r}, wanted 'item' or 'document'")
        self.judge, self.threshold, self.scope, self.max_words = judge, threshold, scope, max_words
        self.words = frozenset(word.casefold() for word in words or ())

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep what is left of a document, or say why not."""
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and why each image that was taken out of it was.

        An image that cannot be looked at goes: nobody knows what it shows.

        Args:
            document: Any.

        Raises:
            ValueError: If the judge gives another number of scores than it got images.
        """
        if (told := self._judge_text(document)) is not None:
            return Filtered(told)
        if self.judge is None:
            return Filtered(document)
        found = self._judge_images([one for one in document.segments if isinstance(one, ImageSegment)])
        explicit = next((one for one in found if one is not None and one.reason == "explicit_image"), None)
        if explicit is not None and self.scope == "document":
            return Filtered(explicit)
        in_order = iter(found)
        return Filtered(*without_images(document, lambda _: next(in_order)))

    def _judge_text(self, document: InterleavedDocument) -> Dropped | None:
        if not self.words:
            return None
        number = sum(word in self.words for word in _WORD.findall(document_text(document).casefold()))
        if number <= self.max_words:
            return None
        return Dropped("explicit_text", f"{number} words of the list, wanted {self.max_words} at most")

    def _judge_images(self, images: Sequence[ImageSegment]) -> list[Dropped | None]:
        """For each image why it goes."""
        assert self.judge is not None
        opened = [_picture(image) for image in images]
        pictures = [one for one in opened if not isinstance(one, Dropped)]
        scores = [float(score) for score in self.judge(pictures)] if pictures else []
        if len(scores) != len(pictures):
            raise ValueError(f"judge gave {len(scores)} scores for {len(pictures)} images, wanted one each")
        in_order = iter(scores)
        return [one if isinstance(one, Dropped) else self._judge_score(next(in_order)) for one in opened]

    def _judge_score(self, score: float) -> Dropped | None:
        if score <= self.threshold:  # what is no number is not let through
            return None
        return Dropped("explicit_image", f"score {score:.2f}, wanted at most {self.threshold}")


def _picture(image: ImageSegment) -> Any:
    """An image as a judge takes it, or why there is none."""
    if image.data is None:
        return Dropped("not_fetched", image.url or "")
    opened = open_image(image.data) if isinstance(image.data, bytes) else image.data
    if isinstance(opened, Dropped):
        return opened
    pillow = require("PIL.Image", used_by="ExplicitContent", extra="data")
    if not isinstance(opened, pillow.Image):
        return Dropped("image_unreadable", f"a {type(opened).__name__} is neither bytes nor an image of pillow")
    if opened.width * opened.height > MAX_PIXELS:
        return Dropped("image_pixels", f"{opened.width} x {opened.height} pixels, wanted {MAX_PIXELS} at most")
    operations = require("PIL.ImageOps", used_by="ExplicitContent", extra="data")
    try:
        return over_white(with_alpha(operations.exif_transpose(opened)))
    except Exception as error:  # noqa: BLE001 - decoders raise what they like
        return unreadable(error)
