"""Similarity of words by what WordNet says they are kinds of."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics.ptb_tokenize import ptb_tokenize

PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
# Endings that a rule takes away, and what it puts instead; exceptions stand in files of WordNet's own.
ENDINGS = {
    "n": (
        ("s", ""), ("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"),
        ("men", "man"), ("ies", "y"),
    ),
    "v": (("s", ""), ("ies", "y"), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    "a": (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    "r": (),
}  # fmt: skip
HYPERNYM = frozenset(["@", "@i"])  # a kind of, an instance of
ROOT_NAME = "*ROOT*"
LAST_PLACE = "/usr/share/wordnet"  # of the Debian package


class Synset(NamedTuple):
    """A sense that several words share: part of speech and offset in the data file."""

    part: str
    offset: int


ROOT = Synset("", -1)  # made up, above all that have nothing above them


class WordNet:
    """WordNet, read from its official files.

    Args:
        folder: The folder with `index.noun`, `data.noun`, `noun.exc` and those of `verb`, `adj` and `adv`: `dict` of
            WordNet's own archive, `corpora/wordnet` of nltk's data, or `/usr/share/wordnet` of the package
            `wordnet-base` of Debian and Ubuntu. None to look in the folder that the environment variable `WNSEARCHDIR`
            names, in nltk's folders and in `/usr/share/wordnet`. Nothing is downloaded.

    Raises:
        EvaluationError: If a file is missing; it names the files and the folders that were looked in.

    Example:
        >>> WordNet(Path("nowhere"))
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: WordNet is missing index.noun in nowhere; give the folder of its \
official files (index.*, data.* and *.exc), version 3.0 for the numbers of papers
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = _find() if folder is None else folder
        if missing := _missing(self.folder):
            raise EvaluationError(
                f"WordNet is missing {missing[0]} in {self.folder}; give the folder of its official files (index.*, "
                "data.* and *.exc), version 3.0 for the numbers of papers"
            )
        self._data: dict[str, bytes] = {}
        self._parents = lru_cache(maxsize=None)(self._read_parents)
        self._first = lru_cache(maxsize=2**16)(self._find_first)
        self._above = lru_cache(maxsize=2**14)(self._find_above)

    def similarity(self, one: str, other: str) -> float:
        """Wu-Palmer similarity of the first senses of two words.

        Args:
            one: A word.
            other: Another.

        Returns:
            From 0 to 1; 0 if one of them is not in WordNet or they have nothing in common.

        Source:
            Wu and Palmer (1994), as nltk computes it: depths are longest, distances shortest ways, and trees that do
            not meet, such as those of nouns and verbs, are joined at a root that is made up.
        """
        first, second = self._first(one.lower()), self._first(other.lower())
        if first is None or second is None:
            return 0.0
        rooted = first.part != "n" or second.part != "n"
        shared = [synset for synset in self._above(first) if synset in self._above(second)]
        if rooted:
            shared.append(ROOT)
        if not shared:
            return 0.0
        depths = {synset: self._depth(synset, longest=False) for synset in shared}
        deepest = [synset for synset in shared if depths[synset] == max(depths.values())]
        common = first if first in deepest else min(deepest, key=self._name)
        depth = self._depth(common, longest=True) + 1
        ways = self._distance(first, common, rooted=rooted) + self._distance(second, common, rooted=rooted)
        return 2 * depth / (ways + 2 * depth)

    def lemmatise(self, text: str) -> list[str]:
        """Words of a text in their base forms.

        The part of speech is guessed from the ending: words in `-ing` and `-ed` are verbs, if they may be, all others
        nouns first, then verbs, adjectives and adverbs.

        Args:
            text: An answer.

        Returns:
            Its words; one that is not in WordNet stays as it is.
        """
        return [self._lemma(word) for word in ptb_tokenize(text)]

    def _lemma(self, word: str) -> str:
        verb_first = word.endswith(("ing", "ed"))
        for part in "vnar" if verb_first else "nvar":
            if forms := self._forms(word, part):
                return min(forms, key=len)
        return word

    @cached_property
    def _index(self) -> dict[str, dict[str, str]]:
        return {part: dict(_index_rows(self.folder / f"index.{name}")) for part, name in PARTS.items()}

    @cached_property
    def _exceptions(self) -> dict[str, dict[str, list[str]]]:
        found = {}
        for part, name in PARTS.items():
            rows = (line.split() for line in (self.folder / f"{name}.exc").read_text("utf-8").split("\n"))
            found[part] = {row[0]: row[1:] for row in rows if row}
        return found

    def _offsets(self, word: str, part: str) -> list[int]:
        row = self._index[part][word].split()
        return [int(offset) for offset in row[-int(row[1]) :]]

    def _forms(self, word: str, part: str) -> list[str]:
        base = self._exceptions[part].get(word)
        if base is None:
            base = [word[: -len(end)] + new for end, new in ENDINGS[part] if word.endswith(end)]
        return [form for form in dict.fromkeys([word, *base]) if form in self._index[part]]

    def _find_first(self, word: str) -> Synset | None:
        for part in PARTS:
            for form in self._forms(word, part):
                return Synset(part, self._offsets(form, part)[0])
        return None

    def _row(self, synset: Synset) -> list[str]:
        part = synset.part
        if part not in self._data:
            self._data[part] = (self.folder / f"data.{PARTS[part]}").read_bytes()
        data = self._data[part]
        start = synset.offset
        if data[start : start + 9] != b"%08d " % start:
            raise EvaluationError(
                f"{self.folder}: data.{PARTS[part]} has no entry at byte {start}, where index.{PARTS[part]} says there "
                "is one; take all files from one archive, with their line ends as they are"
            )
        return data[start : data.find(b"\n", start)].decode().split(" | ")[0].split()

    def _read_parents(self, synset: Synset) -> tuple[Synset, ...]:
        row = self._row(synset)
        start = 4 + 2 * int(row[3], 16)
        pointers = [row[place : place + 4] for place in range(start + 1, start + 1 + 4 * int(row[start]), 4)]
        return tuple(Synset(part.replace("s", "a"), int(to)) for kind, to, part, _ in pointers if kind in HYPERNYM)

    def _name(self, synset: Synset) -> str:
        if synset == ROOT:
            return ROOT_NAME
        row = self._row(synset)
        word = row[4].partition("(")[0].lower()
        return f"{word}.{row[2]}.{self._offsets(word, synset.part).index(synset.offset) + 1:02}"

    def _find_above(self, synset: Synset) -> dict[Synset, int]:
        """Shortest way up to all that is above, the synset itself included."""
        found: dict[Synset, int] = {}
        queue = deque([(synset, 0)])
        while queue:
            current, steps = queue.popleft()
            if current not in found:
                found[current] = steps
                if current != ROOT:
                    queue.extend((parent, steps + 1) for parent in self._parents(current))
        return found

    def _depth(self, synset: Synset, *, longest: bool) -> int:
        parents = () if synset == ROOT else self._parents(synset)
        if not parents:
            return 0
        return 1 + (max if longest else min)(self._depth(parent, longest=longest) for parent in parents)

    def _distance(self, synset: Synset, above: Synset, *, rooted: bool) -> int:
        if synset == above:
            return 0
        first, second = dict(self._above(synset)), dict(self._above(above))
        for ways in (first, second) if rooted else ():
            ways.setdefault(ROOT, max(ways.values()) + 1)
        return min(steps + second[synset] for synset, steps in first.items() if synset in second)


def _index_rows(file: Path) -> Iterator[tuple[str, str]]:
    for line in file.read_text("utf-8").split("\n"):
        word, _, rest = line.partition(" ")
        if word:  # a line of the licence begins with a space
            yield word, rest


def _missing(folder: Path) -> list[str]:
    names = [name for part in PARTS.values() for name in (f"index.{part}", f"data.{part}", f"{part}.exc")]
    return [name for name in names if not (folder / name).is_file()]


def _find() -> Path:
    nltk_data = [*os.environ.get("NLTK_DATA", "").split(os.pathsep), str(Path.home() / "nltk_data")]
    places: Sequence[str] = [
        os.environ.get("WNSEARCHDIR", ""),
        *(str(Path(place, "corpora", "wordnet")) for place in nltk_data if place),
        LAST_PLACE,
    ]
    for place in places:
        if place and not _missing(Path(place)):
            return Path(place)
    raise EvaluationError(
        f"WordNet is in none of {', '.join(filter(None, places))}; give the folder of its official files (index.*, "
        "data.* and *.exc), version 3.0 for the numbers of papers, or name it in WNSEARCHDIR"
    )
