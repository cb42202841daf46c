"""Whether a text is prose, by Gopher's rules of thumb."""

import string
import unicodedata
from collections.abc import Sequence

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.document_text import document_text

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = ("•", "-", "*")
ELLIPSES = ("...", "…")


class GopherQuality:
    """Keep documents whose text is prose: words of the usual length, few symbols and bullets, some stop words.

    The text of all segments is looked at as one; images count as nothing. Words stand between spaces.

    Args:
        min_words: Fewest words with a character that is no punctuation.
        max_words: Most of them.
        min_word_length: Least mean length of these words, in characters.
        max_word_length: Largest mean length.
        max_symbols: Most `#` a word, and most ellipses a word.
        max_bullets: Largest share of lines that begin with a bullet.
        max_ellipses: Largest share of lines that end in an ellipsis.
        min_letters: Least share of words that hold a letter.
        min_stop_words: Fewest different stop words.
        stop_words: They, in lower case; those of English by default.

    Example:
        >>> prose = GopherQuality(min_words=5)
        >>> kept = InterleavedDocument.from_parts(["We have to be with the cat and that of ours."])
        >>> prose(kept) is kept
        True
        >>> prose(InterleavedDocument.from_parts(["# # buy # # now # # cat cat cat cat"])).reason
        'symbols'

    Source:
        Gopher (arXiv 2112.11446), section A.1.1 and table A1. There `*` is no bullet.
    """

    reasons = ("words", "word_length", "symbols", "bullets", "ellipsis", "alpha", "stop_words")

    def __init__(
        self,
        *,
        min_words: int = 50,
        max_words: int = 100_000,
        min_word_length: float = 3.0,
        max_word_length: float = 10.0,
        max_symbols: float = 0.1,
        max_bullets: float = 0.9,
        max_ellipses: float = 0.3,
        min_letters: float = 0.8,
        min_stop_words: int = 2,
        stop_words: Sequence[str] = STOP_WORDS,
    ) -> None:
        self.min_words, self.max_words = min_words, max_words
        self.min_word_length, self.max_word_length = min_word_length, max_word_length
        self.max_symbols, self.max_bullets, self.max_ellipses = max_symbols, max_bullets, max_ellipses
        self.min_letters, self.min_stop_words = min_letters, min_stop_words
        self.stop_words = frozenset(stop_words)

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep a document, or say why not."""
        return self.judge(document_text(document)) or document

    def judge(self, text: str) -> Dropped | None:
        """Why a text is no prose; `None` where it is.

        Args:
            text: Of a document.
        """
        words = text.split()
        told = [word for word in words if word.isalnum() or _says_something(word)]
        if not self.min_words <= len(told) <= self.max_words:
            return Dropped("words", f"{len(told)} words, wanted {self.min_words} to {self.max_words}")
        length = sum(map(len, told)) / max(len(told), 1)
        if told and not self.min_word_length <= length <= self.max_word_length:
            wanted = f"{self.min_word_length} to {self.max_word_length}"
            return Dropped("word_length", f"{length:.2f} characters a word, wanted {wanted}")
        return self._judge_lines(text, len(words)) or self._judge_words(words)

    def _judge_lines(self, text: str, num_words: int) -> Dropped | None:
        for symbols in (("#",), ELLIPSES):
            share = sum(text.count(symbol) for symbol in symbols) / max(num_words, 1)
            if share > self.max_symbols:
                return Dropped("symbols", f"{share:.2f} {symbols[0]} a word, wanted at most {self.max_symbols}")
        lines = [line.strip() for line in text.splitlines() if line and not line.isspace()]
        for reason, number, most in (
            ("bullets", sum(line.startswith(BULLETS) for line in lines), self.max_bullets),
            ("ellipsis", sum(line.endswith(ELLIPSES) for line in lines), self.max_ellipses),
        ):
            if number > most * len(lines):
                return Dropped(reason, f"{number} of {len(lines)} lines, wanted at most {most:.0%}")
        return None

    def _judge_words(self, words: Sequence[str]) -> Dropped | None:
        letters = sum(word.isalpha() or any(map(str.isalpha, word)) for word in words)
        if letters < self.min_letters * len(words):
            return Dropped("alpha", f"{letters} of {len(words)} words hold a letter, wanted {self.min_letters:.0%}")
        if self.min_stop_words:
            found = self.stop_words.intersection(word.lower().strip(string.punctuation) for word in words)
            if len(found) < self.min_stop_words:
                return Dropped("stop_words", f"{sorted(found)} found, wanted {self.min_stop_words} of them")
        return None


def _says_something(word: str) -> bool:
    """Whether a character of a word is neither punctuation nor a symbol."""
    if word.isascii():
        return bool(word.strip(string.punctuation))
    return any(unicodedata.category(character)[0] not in "PS" for character in word)
