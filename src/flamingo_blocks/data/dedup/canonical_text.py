"""Texts that say the same are written the same before they are compared."""

import re
import sys
import unicodedata
from functools import lru_cache
from itertools import groupby

ASCII_NO_WORD = re.compile(r"[^a-z0-9]+")


def canonical_text(text: str) -> str:
    """The words of a text, one space between two: what duplicates are told by.

    Case, punctuation, typesetting and the many ways to write one character do not count: the text stands in Unicode's
    form NFKC, its case folded, and every run of what is neither letter, mark nor digit is one space.

    Args:
        text: Any. Scripts without spaces have words as long as their sentences.

    Example:
        >>> canonical_text("  “The CAT,”  she said — twice.")
        'the cat she said twice'
        >>> canonical_text("...")
        ''
    """
    if text.isascii():
        return ASCII_NO_WORD.sub(" ", text.lower()).strip()
    for _ in range(2):  # what is folded can be written otherwise in the form, and the other way round
        text = unicodedata.normalize("NFKC", text).casefold()
    return _no_word().sub(" ", unicodedata.normalize("NFKC", text)).strip()


@lru_cache(maxsize=1)
def _no_word() -> re.Pattern[str]:
    """Runs of what is no letter, mark or digit; `re` itself calls the vowels of many scripts no part of a word."""
    marks = [code for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] == "M"]
    ranges = []
    for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0]):
        codes = [code for _, code in run]
        ranges.append(f"{chr(codes[0])}-{chr(codes[-1])}")
    return re.compile(rf"(?:_|[^\w{''.join(ranges)}])+")
