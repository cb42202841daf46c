"""Words as tokens, for a look at documents before there is a tokenizer."""

import re
from collections.abc import Sequence

from flamingo_blocks.data.tokenize import SpecialTokens

_WORD = re.compile(r"\s*\S+(?:\s+\Z)?|\s+")  # with the space before it, and at the end of a text the space behind it


class WordTokenizer:
    """A tokenizer whose tokens are the words of a text, to look at documents before a tokenizer was chosen.

    It learns words as it meets them, and gives back what it was given, spaces included. It is no tokenizer to train
    with: its ids depend on what it has read.

    Example:
        >>> words = WordTokenizer()
        >>> words.encode("a cat, a dog")
        [4, 5, 6, 7]
        >>> words.decode([5, 7])
        ' cat, dog'
        >>> words.special.media_ids
        (0,)
    """

    special = SpecialTokens(media=0, end_of_chunk=1, bos=2, eos=3)
    """Ids below those of words."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._ids: dict[str, int] = {}

    def encode(self, text: str) -> list[int]:
        """Ids of the words of a text; space alone is one word."""
        return [self._id(word) for word in _WORD.findall(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return "".join(self._words[token - self._first] for token in ids)

    _first = 4

    def _id(self, word: str) -> int:
        if word not in self._ids:
            self._ids[word] = self._first + len(self._words)
            self._words.append(word)
        return self._ids[word]
