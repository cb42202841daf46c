"""Whether a text repeats itself, by Gopher's rules."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filters.document_text import document_text

TOP_NGRAMS = {2: 0.20, 3: 0.18, 4: 0.16}
DUPLICATE_NGRAMS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


class GopherRepetition:
    """Keep documents that do not say the same over and over: lines, paragraphs and runs of words.

    Shares are of characters in words, spaces not counted. A character counts as repeated once, in however many repeated
    runs it stands; a run of words that stands once is no repetition, however short the text.

    Args:
        max_paragraphs: Largest share of paragraphs that stood before.
        max_lines: Largest share of lines that stood before.
        max_paragraph_characters: Largest share of the characters in such paragraphs.
        max_line_characters: Largest share of the characters in such lines.
        top_ngrams: For some numbers of words: the largest share of the characters in the most frequent run of so many.
        duplicate_ngrams: Likewise: the largest share of the characters in runs that stood before.

    Raises:
        ValueError: If a number of words is below 1.

    Example:
        >>> once = GopherRepetition()
        >>> once(InterleavedDocument.from_parts(["Buy now, the best cats of the town. " * 9])).reason
        'top_2'

    Source:
        Gopher (arXiv 2112.11446), section A.1.1 and table A1.
    """

    def __init__(
        self,
        *,
        max_paragraphs: float = 0.30,
        max_lines: float = 0.30,
        max_paragraph_characters: float = 0.20,
        max_line_characters: float = 0.20,
        top_ngrams: Mapping[int, float] = TOP_NGRAMS,
        duplicate_ngrams: Mapping[int, float] = DUPLICATE_NGRAMS,
    ) -> None:
        self.parts = (
            ("paragraphs", re.compile(r"\n{2,}"), max_paragraphs, max_paragraph_characters),
            ("lines", re.compile(r"\n+"), max_lines, max_line_characters),
        )
        self.top, self.duplicate = dict(top_ngrams), dict(duplicate_ngrams)
        if wrong := [n for n in (*self.top, *self.duplicate) if n < 1]:
            raise ValueError(f"runs of {wrong[0]} words were named, wanted 1 or more")

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that it may say."""
        parts = [f"duplicate_{name}{what}" for name, *_ in self.parts for what in ("", "_characters")]
        return (*parts, *(f"top_{n}" for n in self.top), *(f"duplicate_{n}" for n in self.duplicate))

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep a document, or say why not."""
        return self.judge(document_text(document)) or document

    def judge(self, text: str) -> Dropped | None:
        """How a text repeats itself; `None` where it does not.

        Args:
            text: Of a document.
        """
        for name, border, most, most_characters in self.parts:
            parts = [stripped for part in border.split(text) if (stripped := part.strip())]
            share, of_characters = _repeated_parts(parts)
            if share > most:
                return Dropped(f"duplicate_{name}", f"{share:.0%} of them, wanted at most {most:.0%}")
            if of_characters > most_characters:
                told = f"{of_characters:.0%} of the characters, wanted at most {most_characters:.0%}"
                return Dropped(f"duplicate_{name}_characters", told)
        return self._judge_words(text.split())

    def _judge_words(self, words: Sequence[str]) -> Dropped | None:
        lengths = [len(word) for word in words]
        total = sum(lengths)
        longest = max((0, *self.top, *self.duplicate))
        for n, names in enumerate(_ngrams(words, longest), 1):
            for reason, limits, count in (("top", self.top, _most_frequent), ("duplicate", self.duplicate, _repeated)):
                if n in limits and (share := count(names, lengths, n) / total) > limits[n]:
                    told = f"{share:.0%} of the characters, wanted at most {limits[n]:.0%}"
                    return Dropped(f"{reason}_{n}", told)
        return None


def _repeated_parts(parts: Sequence[str]) -> tuple[float, float]:
    """Shares of parts, and of characters in parts, that stood before."""
    counts = Counter(parts)
    repeats = [(count - 1, len(part)) for part, count in counts.items() if count > 1]
    characters = sum(map(len, parts))
    if not parts:
        return 0.0, 0.0
    return sum(n for n, _ in repeats) / len(parts), sum(n * length for n, length in repeats) / characters


def _ngrams(words: Sequence[str], longest: int) -> Iterator[list[int]]:
    """For runs of 1, 2, ... words: a number for each place, the same where the words are the same.

    It ends where no run stands twice: then no longer one does.
    """
    known: dict[str, int] = {}
    singles = [known.setdefault(word, len(known)) for word in words]
    names, different = singles, len(known)
    for n in range(1, longest + 1):
        if n > 1:  # a run is the run one shorter, and one more word
            pairs: dict[tuple[int, int], int] = {}
            names = [pairs.setdefault(pair, len(pairs)) for pair in zip(names, singles[n - 1 :], strict=False)]
            different = len(pairs)
        if different == len(names):
            return
        yield names


def _most_frequent(names: Sequence[int], lengths: Sequence[int], n: int) -> int:
    """Characters in the most frequent run of words, all its places together; the longest of several."""
    counts = Counter(names)
    most = max(counts.values())
    if most == 1:
        return 0
    first = {name: place for place, name in reversed(list(enumerate(names))) if counts[name] == most}
    return most * max(sum(lengths[place : place + n]) for place in first.values())


def _repeated(names: Sequence[int], lengths: Sequence[int], n: int) -> int:
    """Characters in runs of words that stood before, each counted once."""
    seen: set[int] = set()
    characters = covered = 0  # words before `covered` were counted, if they count
    for place, name in enumerate(names):
        if name in seen:
            characters += sum(lengths[max(place, covered) : place + n])
            covered = place + n
        else:
            seen.add(name)
    return characters
