"""Shares of a text that tell prose from what stands around it, with a limit for each."""

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from math import inf, isqrt

from flamingo_blocks.data.documents import InterleavedDocument, Segment, TextSegment
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered
from flamingo_blocks.data.filters.document_text import document_text
from flamingo_blocks.data.without_parts import PARAGRAPH

_PARAGRAPHS = re.compile(r"\n{2,}")  # however wide the gap between two is
_NO_LETTERS = re.compile(r"^[\W\d_]+|[\W\d_]+$")
_TOKENS = re.compile(r"[\w']+|[,;:?!.]")
_RUN_OF_CHARACTERS, _RUN_OF_WORDS = 10, 5


@dataclass(frozen=True)
class WordLists:
    """Words that limits ask for, in lower case. None is shipped: they differ by language and by taste.

    Args:
        stop: Such as "the" and "of", which every sentence has.
        flagged: That tell explicit texts.
        common: All words that are frequent in the language; what is not among them is misspelt, a name or noise.

    Example:
        >>> limits = TextLimits(min_stop=0.2)
        >>> limits.judge("Cheap cats cheap dogs", WordLists(stop={"the", "of", "a"})).reason
        'stop_words'
    """

    stop: Collection[str] | None = None
    flagged: Collection[str] | None = None
    common: Collection[str] | None = None


@dataclass(frozen=True, kw_only=True)
class TextLimits:
    """What a text has to keep to. By default it may be anything.

    Words stand between spaces, in lower case and without what is no letter at both ends; what has no letter is none.

    Args:
        min_words: Fewest words.
        max_words: Most words.
        max_character_repetition: Largest share, among all runs of ten characters, of the most frequent ones: of so many
            as the square root of their number, if they occur more than once.
        max_word_repetition: Largest share of runs of five words that occur more than once.
        max_special: Largest share of characters that are no letters: spaces, digits, punctuation.
        min_stop: Least share of words that are stop words.
        max_flagged: Largest share of words that are flagged.
        min_punctuation: Least share of `, ; : ? ! .` among these and the words.
        punctuation_from: Shorter texts, in words and such signs, need none.
        min_common: Least share of words that are common.
        max_perplexity: How surprising a language model may find the text.

    Example:
        >>> TextLimits(min_words=4).judge("Home | News | Sport")
        Dropped(reason='words', detail='3, wanted 4 to inf')

    Source:
        OBELICS (arXiv 2306.16527), section A.2, and its public code for what exactly is counted; there a fixed list of
        characters is special, which are the letters of no script.
    """

    min_words: int = 0
    max_words: float = inf
    max_character_repetition: float = 1.0
    max_word_repetition: float = 1.0
    max_special: float = 1.0
    min_stop: float = 0.0
    max_flagged: float = 1.0
    min_punctuation: float = 0.0
    punctuation_from: int = 0
    min_common: float = 0.0
    max_perplexity: float = inf

    reasons = (
        "words", "character_repetition", "word_repetition", "special_characters", "stop_words", "flagged_words",
        "punctuation", "common_words", "perplexity",
    )  # fmt: skip

    def judge(
        self, text: str, lists: WordLists | None = None, perplexity: Callable[[str], float] | None = None
    ) -> Dropped | None:
        """Why a text does not keep to the limits; `None` where it does.

        Args:
            text: Any.
            lists: The words that the limits ask for.
            perplexity: A language model's, of a text; asked last.

        Raises:
            ValueError: If a limit asks for a list or a model that is not given.
        """
        lists = WordLists() if lists is None else lists
        self.check(lists, perplexity)
        words = words_of(text)
        if not self.min_words <= len(words) <= self.max_words:
            return Dropped("words", f"{len(words)}, wanted {self.min_words} to {self.max_words}")
        measures: tuple[tuple[str, float, float, Callable[[], float]], ...] = (
            ("special_characters", 0, self.max_special, lambda: _share(text, lambda one: not one.isalpha())),
            ("stop_words", self.min_stop, 1, lambda: _share(words, (lists.stop or ()).__contains__)),
            ("flagged_words", 0, self.max_flagged, lambda: _share(words, (lists.flagged or ()).__contains__)),
            ("common_words", self.min_common, 1, lambda: _share(words, (lists.common or ()).__contains__)),
            ("punctuation", self.min_punctuation, 1, lambda: punctuation(text, self.punctuation_from)),
            ("word_repetition", 0, self.max_word_repetition, lambda: word_repetition(words)),
            ("character_repetition", 0, self.max_character_repetition, lambda: character_repetition(text)),
            ("perplexity", 0, self.max_perplexity, lambda: 0 if perplexity is None else perplexity(text)),
        )
        for reason, least, most, measure in measures:
            anything = least == 0 and most == (inf if reason == "perplexity" else 1)
            if not anything and not least <= (found := measure()) <= most:
                return Dropped(reason, f"{found:.3g}, wanted {least:g} to {most:g}")
        return None

    def check(self, lists: WordLists, perplexity: Callable[[str], float] | None) -> None:
        """Tell a limit that asks for something that is missing.

        Args:
            lists: Words.
            perplexity: A language model's.

        Raises:
            ValueError: If there is one.
        """
        for name, off, given in (
            ("min_stop", 0, lists.stop), ("max_flagged", 1, lists.flagged), ("min_common", 0, lists.common),
            ("max_perplexity", inf, perplexity),
        ):  # fmt: skip
            if getattr(self, name) != off and given is None:
                wanted = "a function of a text" if name == "max_perplexity" else "a list of words"
                told = f"{name} is {getattr(self, name)}, which needs {wanted}"
                raise ValueError(f"{told}, and none is given or shipped; without it, set it to {off}")


class LimitedText:
    r"""Take out paragraphs that do not keep to limits, and drop documents that do not keep to theirs.

    Args:
        document: Limits of the whole text, after paragraphs are gone.
        paragraph: Limits of each paragraph; none by default.
        lists: Words that the limits ask for.
        perplexity: A language model's, of a text.

    Raises:
        ValueError: If a limit asks for a list or a model that is not given.

    Example:
        >>> prose = LimitedText(TextLimits(min_words=5), paragraph=TextLimits(min_words=3))
        >>> prose(InterleavedDocument.from_parts(["Home\n\nTom sleeps on the wall"])).text
        'Tom sleeps on the wall'
    """

    reasons = TextLimits.reasons
    item_reasons = tuple(f"paragraph_{reason}" for reason in TextLimits.reasons)

    def __init__(
        self,
        document: TextLimits,
        *,
        paragraph: TextLimits | None = None,
        lists: WordLists | None = None,
        perplexity: Callable[[str], float] | None = None,
    ) -> None:
        lists = WordLists() if lists is None else lists
        for limits in (document, paragraph):
            if limits is not None:
                limits.check(lists, perplexity)
        self.document, self.paragraph, self.perplexity = document, paragraph, perplexity
        self.lists = WordLists(
            *(None if words is None else frozenset(words) for words in (lists.stop, lists.flagged, lists.common))
        )

    def __call__(self, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep what is left of a document, or say why not."""
        return self.filter_items(document).document

    def filter_items(self, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and why each paragraph that was taken out of it was.

        Args:
            document: Any.
        """
        removed: list[Dropped] = []
        segments: list[Segment] = []
        for segment in document.segments:
            left = self._without_paragraphs(segment.text, removed) if isinstance(segment, TextSegment) else None
            if left is None or not isinstance(segment, TextSegment):
                segments.append(segment)
            elif left:
                segments.append(TextSegment(left))
        left_over = replace(document, segments=tuple(segments)) if removed else document
        told = self.document.judge(document_text(left_over), self.lists, self.perplexity)
        return Filtered(told or left_over, tuple(removed))

    def _without_paragraphs(self, text: str, removed: list[Dropped]) -> str | None:
        """The text without those that go; `None` where none goes."""
        if self.paragraph is None:
            return None
        left = []
        number = len(removed)
        for paragraph in _PARAGRAPHS.split(text.strip("\n")):
            if (told := self.paragraph.judge(paragraph, self.lists, self.perplexity)) is None:
                left.append(paragraph)
            else:
                removed.append(Dropped(f"paragraph_{told.reason}", told.detail))
        return PARAGRAPH.join(left) if len(removed) > number else None


def words_of(text: str) -> list[str]:
    """The words of a text as limits count them.

    Args:
        text: Any.

    Example:
        >>> words_of("(Tom's) 2 Cats -- sleep.")
        ["tom's", 'cats', 'sleep']
    """
    stripped = (word if word.isalpha() else _NO_LETTERS.sub("", word) for word in text.lower().split())
    return [word for word in stripped if word]


def character_repetition(text: str) -> float:
    """Share of the most frequent runs of ten characters; see `TextLimits`.

    Args:
        text: Any.
    """
    counts = Counter(text[k : k + _RUN_OF_CHARACTERS] for k in range(len(text) - _RUN_OF_CHARACTERS + 1))
    repeated = sorted((count for count in counts.values() if count > 1), reverse=True)
    return sum(repeated[: isqrt(len(counts))]) / max(counts.total(), 1)


def word_repetition(words: list[str]) -> float:
    """Share of runs of five words that occur more than once.

    Args:
        words: Of a text.
    """
    counts = Counter(tuple(words[k : k + _RUN_OF_WORDS]) for k in range(len(words) - _RUN_OF_WORDS + 1))
    return sum(count for count in counts.values() if count > 1) / max(counts.total(), 1)


def punctuation(text: str, from_tokens: int = 0) -> float:
    """Share of signs among words and signs; 1 for shorter texts.

    Args:
        text: Any.
        from_tokens: How many words and signs a text must have to be looked at.
    """
    tokens = _TOKENS.findall(text)
    if len(tokens) < from_tokens:
        return 1.0
    return sum(one in ",;:?!." for one in tokens) / max(len(tokens), 1)


def _share(parts: Collection[str], counts: Callable[[str], bool]) -> float:
    return sum(map(counts, parts)) / max(len(parts), 1)
