"""Steps from pages to documents with the filters of those who built such data."""

import re
from dataclasses import replace
from math import inf
from typing import Literal

from flamingo_blocks.data.filters import (
    DocumentFilter,
    FilterChain,
    GopherQuality,
    ItemFilter,
    Language,
    m3w_preset,
    obelics_preset,
)
from flamingo_blocks.data.filters.presets import OBELICS_DOCUMENT, OBELICS_PARAGRAPH
from flamingo_blocks.data.pipeline.page_step import PageStep
from flamingo_blocks.data.sources import Fetcher

Preset = Literal["m3w", "obelics", "none"]


def page_step(
    preset: Preset = "m3w",
    *,
    fetcher: Fetcher | None = None,
    language: str | None = "en",
    min_confidence: float = 0.8,
    min_words: int | None = None,
) -> PageStep:
    """A step with a preset's filters, of which none needs a list of words or a model that is not shipped.

    For judges of explicit content, lists of words and other limits make a `PageStep` of `m3w_preset` or
    `obelics_preset`.

    Args:
        preset: `"m3w"`, `"obelics"` without its lists and its language model, or `"none"` for no filter.
        fetcher: Gives the bytes of images. Without it images are known by their address, and not looked at.
        language: The one that is kept; `None` keeps all.
        min_confidence: How sure the language must be. Prose reaches 0.8; texts full of code and names stay below it.
        min_words: Fewest words of a document, in place of the preset's.

    Raises:
        ValueError: If `preset` is another word, `language` no code, or `min_confidence` not between 0 and 1.

    Example:
        >>> [type(keep).__name__ for keep in page_step("m3w", language=None).before.filters]
        ['DocumentImages', 'GopherQuality', 'GopherRepetition']
    """
    if preset not in ("m3w", "obelics", "none"):
        raise ValueError(f"preset is {preset!r}, wanted 'm3w', 'obelics' or 'none'")
    if not 0.0 <= min_confidence <= 1.0:
        raise ValueError(f"min_confidence is {min_confidence}, wanted 0 to 1")
    if language is not None and re.fullmatch("[a-z]{2,3}", language) is None:
        raise ValueError(f"language is {language!r}, wanted its code of two or three letters, such as 'en'")
    if preset == "none":
        return PageStep(fetcher=fetcher)
    if preset == "m3w":
        before, after = m3w_preset(part="page"), m3w_preset(part="images")
    else:
        # Without the lists and the language model that OBELICS has, the limits that need them are off.
        document = replace(OBELICS_DOCUMENT, min_stop=0.0, max_flagged=1.0, min_common=0.0, max_perplexity=inf)
        paragraph = replace(OBELICS_PARAGRAPH, min_stop=0.0, max_flagged=1.0, min_common=0.0)
        if min_words is not None:
            document = replace(document, min_words=min_words)
        before = obelics_preset(paragraph=paragraph, document=document, part="page")
        after = obelics_preset(paragraph=paragraph, document=document, part="images")
    kept = [_asked(keep, language, min_confidence, min_words) for keep in before.filters]
    chain = FilterChain([keep for keep in kept if keep is not None])
    return PageStep(before=chain, fetcher=fetcher, after=after if fetcher is not None else FilterChain([]))


def _asked(
    keep: DocumentFilter | ItemFilter, language: str | None, min_confidence: float, min_words: int | None
) -> DocumentFilter | ItemFilter | None:
    """A filter with what is asked for in place of the preset's, or none."""
    if isinstance(keep, Language):
        return None if language is None else Language(language, min_confidence=min_confidence)
    if isinstance(keep, GopherQuality) and min_words is not None:
        return GopherQuality(min_words=min_words)
    return keep
