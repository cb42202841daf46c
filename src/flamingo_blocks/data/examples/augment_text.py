"""Small changes of a text that leave its meaning."""

import re
from dataclasses import dataclass, fields, replace

from flamingo_blocks.data.documents import InterleavedDocument, Segment, TextSegment
from flamingo_blocks.data.examples.keyed_draws import KeyedDraws


@dataclass(frozen=True, kw_only=True)
class AugmentText:
    """Change how texts begin, end and are spaced, each with a chance of its own; tags stay as they are.

    The paper changes nothing of a text but the space before a caption, so every chance is 0 unless you say it.

    Args:
        first_letter: Chance that the first letter changes between upper and lower case.
        full_stop: Chance that a full stop at the end is left out.
        spaces: Chance that every run of white space, line ends among it, becomes one space.

    Raises:
        ValueError: If a chance lies outside of 0 to 1.

    Example:
        >>> lower = AugmentText(first_letter=1.0, full_stop=1.0)
        >>> lower.text("A cat on a wall.", KeyedDraws(0))
        'a cat on a wall'
    """

    first_letter: float = 0.0
    full_stop: float = 0.0
    spaces: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0.0 <= (chance := getattr(self, field.name)) <= 1.0:
                raise ValueError(f"{field.name} is {chance}, wanted a chance from 0 to 1")

    def text(self, text: str, draws: KeyedDraws, place: int = 0) -> str:
        """Change one run of text.

        Args:
            text: The run.
            draws: Says what happens to it.
            place: Number of the run in its document, so that each has draws of its own.
        """
        if draws.happens(self.spaces, "spaces", place):
            text = re.sub(r"\s+", " ", text)
        if draws.happens(self.first_letter, "first letter", place):
            text = _other_case(text)
        if draws.happens(self.full_stop, "full stop", place):
            text = _without_full_stop(text)
        return text

    def document(self, document: InterleavedDocument, draws: KeyedDraws) -> InterleavedDocument:
        """Change every run of text of a document.

        Args:
            document: It is merged first.
            draws: Says what happens to each run.
        """
        merged = document.merged()
        changed: list[Segment] = [
            TextSegment(self.text(segment.text, draws, place)) if isinstance(segment, TextSegment) else segment
            for place, segment in enumerate(merged.segments)
        ]
        return replace(merged, segments=tuple(changed))


def _other_case(text: str) -> str:
    """The first letter in its other case, where that is one letter again."""
    place = len(text) - len(text.lstrip())
    swapped = text[place : place + 1].swapcase()
    return text[:place] + swapped + text[place + 1 :] if len(swapped) == 1 else text


def _without_full_stop(text: str) -> str:
    body = text.rstrip()
    if not body.endswith(".") or body.endswith(".."):
        return text
    return body[:-1] + text[len(body) :]
