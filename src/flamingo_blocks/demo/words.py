"""The demo's words: one token each, so that text, tokens and table cells can be read side by side."""

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from flamingo_blocks.data import SpecialTokens

START = "<bos>"
IMAGE = "<image>"
END_OF_CHUNK = "<EOC>"

DIGITS = tuple("zero one two three four five six seven eight nine".split())
COLOURS = tuple("red green blue yellow purple white".split())
THINGS = tuple(
    """
    fox owl cat dog bee ant elk hen cow pig ram rat bat jay emu eel cod crab frog toad newt wolf bear lion hat cap
    sock boot coat vest ring bell drum harp horn lute cup jar pan pot bowl fork spoon knife lamp desk chair sofa door
    gate wall roof tent boat ship raft car bus van cart bike kite ball doll yoyo book map pen coin key lock nail saw
    axe rake hoe rope net tree leaf root seed bud rose lily fern moss rock sand hill lake pond sea star moon sun rain
    snow
    """.split()
)
# Made-up names. The language model reads all of them in text; the last eight never stand beside an image in training.
NAMES_BESIDE_IMAGES = tuple(
    """
    dax wug toft gex tosk nosk nup tox luft bolm vaft lix bax rilm gond lisk rulm tolm lilm vask nelm goft reft volm
    gox nisk fux vond zaft posk besk pux mund nend solm vug dalm zulm fep tiv
    """.split()
)
NEW_NAMES = tuple("kulm pisk bilm zosk faft dosk melm gip".split())
NAMES = NAMES_BESIDE_IMAGES + NEW_NAMES
_GRAMMAR = (START, *". this is a an the image of digit here comes after".split())


@dataclass(frozen=True)
class Vocabulary:
    """Words and their token ids: the words the language model was trained on, then the new tokens.

    Args:
        words: Words of the language model, in the order of its embedding rows.
        new_tokens: Tokens whose rows are trained beside the frozen table; their ids follow those of `words`.

    Example:
        >>> vocabulary = Vocabulary(words=("<bos>", "a", "fox"), new_tokens=("<image>",))
        >>> vocabulary.encode("a fox <image>")
        [1, 2, 3]
        >>> vocabulary.decode([1, 2])
        'a fox'
    """

    words: tuple[str, ...]
    new_tokens: tuple[str, ...] = (IMAGE, END_OF_CHUNK)

    @cached_property
    def ids(self) -> dict[str, int]:
        """Token id of each word."""
        return {word: index for index, word in enumerate(self.words + self.new_tokens)}

    @property
    def special(self) -> SpecialTokens:
        """Ids of the tokens that are no words."""
        return SpecialTokens(media=self.ids[IMAGE], end_of_chunk=self.ids[END_OF_CHUNK], bos=self.ids[START])

    def encode(self, text: str | Sequence[str]) -> list[int]:
        """Token ids of a text whose words stand apart by spaces.

        Raises:
            ValueError: If a word is not in the vocabulary; the message names it and words close to it.
        """
        words = text.split() if isinstance(text, str) else list(text)
        unknown = [word for word in words if word not in self.ids]
        if unknown:
            close = difflib.get_close_matches(unknown[0], self.ids, n=5, cutoff=0.4)
            raise ValueError(
                f"text holds the word {unknown[0]!r}, which is not among the {len(self.ids)} words of this model; "
                f"close ones: {', '.join(close) or 'none'}"
            )
        return [self.ids[word] for word in words]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids."""
        everything = self.words + self.new_tokens
        return " ".join(everything[index] for index in ids)

    def save(self, path: Path) -> None:
        """Write the words as JSON."""
        path.write_text(json.dumps({"words": self.words, "new_tokens": self.new_tokens}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read what `save` wrote."""
        content = json.loads(path.read_text())
        return cls(words=tuple(content["words"]), new_tokens=tuple(content["new_tokens"]))


def demo_vocabulary() -> Vocabulary:
    """The vocabulary of the demo: grammar words, digits, colours, things and names, then `<image>` and `<EOC>`."""
    return Vocabulary(words=_GRAMMAR + DIGITS + COLOURS + THINGS + NAMES)
