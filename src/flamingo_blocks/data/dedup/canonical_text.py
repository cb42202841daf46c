"""Texts that say the same are written the same before they are compared."""

import unicodedata


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
    return " ".join(spaced_words(text).split())


def spaced_words(text: str) -> str:
    """The words of `canonical_text`, any number of spaces between two and at the ends."""
    if text.isascii():
        text = text.lower()
    else:
        for _ in range(2):  # what is folded can be written otherwise in the form, and the other way round
            text = unicodedata.normalize("NFKC", text).casefold()
        text = unicodedata.normalize("NFKC", text)
    return text.translate(_LETTERS)


class _Letters(dict[int, int]):
    """What stands for a character: itself where it is part of a word, else a space; remembered for each."""

    def __missing__(self, code: int) -> int:
        found = self[code] = code if unicodedata.category(chr(code))[0] in "LMN" else ord(" ")
        return found


_LETTERS = _Letters()
