"""Filters in the order of those who built such data, with their numbers."""

from collections.abc import Callable, Collection
from typing import Literal

from flamingo_blocks.data.filters.document_images import DocumentImages
from flamingo_blocks.data.filters.explicit_content import ExplicitContent, ImageJudge
from flamingo_blocks.data.filters.filter_chain import DocumentFilter, FilterChain, ItemFilter
from flamingo_blocks.data.filters.gopher_quality import GopherQuality
from flamingo_blocks.data.filters.gopher_repetition import GopherRepetition
from flamingo_blocks.data.filters.image_gate import ImageGate
from flamingo_blocks.data.filters.language import Language, identify_language
from flamingo_blocks.data.filters.page_images import DeclaredSize, UrlWords
from flamingo_blocks.data.filters.text_limits import LimitedText, TextLimits, WordLists

Part = Literal["all", "page", "images"]
_Filters = list[DocumentFilter | ItemFilter]
Identify = Callable[[str], tuple[str, float]]
OBELICS_PARAGRAPH = TextLimits(
    min_words=4, max_words=1000, max_character_repetition=0.1, max_word_repetition=0.1, max_special=0.3, min_stop=0.3,
    max_flagged=0.01, min_punctuation=0.001, punctuation_from=12, min_common=0.8,
)  # fmt: skip
OBELICS_DOCUMENT = TextLimits(
    min_words=10, max_words=2000, max_character_repetition=0.1, max_word_repetition=0.2, max_special=0.275,
    min_stop=0.35, max_flagged=0.01, min_punctuation=0.03, min_common=0.9, max_perplexity=1500,
)  # fmt: skip


def m3w_preset(
    *,
    judge: ImageJudge | None = None,
    threshold: float = 0.5,
    explicit_words: Collection[str] | None = None,
    language: str = "en",
    identify: Identify = identify_language,
    part: Part = "all",
) -> FilterChain:
    """The filters of Flamingo's M3W, in the order of the paper.

    Language; explicit images and texts; pages without an image; quality and repetition of the text as for MassiveWeb;
    images that are small, long or of a single colour; pages that are left without one.

    Args:
        judge: See `ExplicitContent`. Without it images are not judged: no classifier is shipped.
        threshold: See `ExplicitContent`.
        explicit_words: Its `words`.
        language: Code that `identify` gives.
        identify: See `Language`.
        part: `"page"` is what needs no file of an image, for a run before they are fetched; `"images"` is the rest, for
            a run after it.

    Raises:
        ValueError: If `part` is none of these.

    Example:
        >>> [type(keep).__name__ for keep in m3w_preset(part="page").filters]
        ['Language', 'DocumentImages', 'GopherQuality', 'GopherRepetition']
        >>> [type(keep).__name__ for keep in m3w_preset(part="images").filters]
        ['DocumentImages']

    Source:
        Flamingo (arXiv 2204.14198), section A.3.1, which says of the text filters that they are "similar" to those of
        MassiveWeb and names no numbers; ours are Gopher's.
    """
    _check_part(part)
    page: _Filters = [Language(language, identify=identify)]
    if explicit_words and (judge is None or part == "page"):
        page.append(ExplicitContent(None, words=explicit_words))
    judged: _Filters = []
    if judge is not None:
        words = explicit_words if part == "all" else None
        judged.append(ExplicitContent(judge, threshold=threshold, words=words))
    text: _Filters = [
        DocumentImages(None, None, without_data="keep"),
        GopherQuality(),
        GopherRepetition(),
    ]
    images = DocumentImages()
    if part == "all":
        return FilterChain([*page, *judged, *text, images])
    return FilterChain([*page, *text] if part == "page" else [*judged, images])


def obelics_preset(
    *,
    stop_words: Collection[str] | None = None,
    flagged_words: Collection[str] | None = None,
    common_words: Collection[str] | None = None,
    perplexity: Callable[[str], float] | None = None,
    judge: ImageJudge | None = None,
    threshold: float = 0.5,
    paragraph: TextLimits = OBELICS_PARAGRAPH,
    document: TextLimits = OBELICS_DOCUMENT,
    language: str = "en",
    identify: Identify = identify_language,
    part: Part = "all",
) -> FilterChain:
    """Filters with the limits of OBELICS, stricter than M3W's.

    Images by the words of their address and their declared size; paragraphs; the text as a whole; language; the files
    of images; explicit images. OBELICS's lists of words, its model of language and its classifier are not shipped.

    Args:
        stop_words: Words that every sentence has.
        flagged_words: Words that tell explicit texts.
        common_words: Words that are frequent in the language.
        perplexity: A language model's, of a text.
        judge: See `ExplicitContent`. Without it images are not judged.
        threshold: See `ExplicitContent`.
        paragraph: Limits of a paragraph.
        document: Limits of the whole text.
        language: Code that `identify` gives.
        identify: See `Language`.
        part: As in `m3w_preset`.

    Raises:
        ValueError: If a limit asks for a list or for `perplexity`, and it is not given.

    Example:
        >>> obelics_preset()
        Traceback (most recent call last):
        ...
        ValueError: min_stop is 0.35, which needs a list of words, and none is given or shipped; without it, set it to 0

    Source:
        OBELICS (arXiv 2306.16527), section A.2 and table 6. Removal of duplicates is a step of its own.
    """
    _check_part(part)
    lists = WordLists(stop_words, flagged_words, common_words)
    page: _Filters = [
        UrlWords(),
        DeclaredSize(min_px=150, max_px=20_000, max_ratio=2.0),
        LimitedText(document, paragraph=paragraph, lists=lists, perplexity=perplexity),
        Language(language, identify=identify),
        DocumentImages(None, None, without_data="keep"),
    ]
    gate = ImageGate(min_side_px=150, max_side_px=20_000, max_ratio=2.0, formats=("JPEG", "PNG", "WEBP"))
    images: _Filters = [DocumentImages(gate, None, max_images=30)]
    if judge is not None:
        images.append(ExplicitContent(judge, threshold=threshold))
    return FilterChain({"all": page + images, "page": page, "images": images}[part])


def _check_part(part: str) -> None:
    if part not in ("all", "page", "images"):
        raise ValueError(f"part is {part!r}, wanted 'all', 'page' or 'images'")
