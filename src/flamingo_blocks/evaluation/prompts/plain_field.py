"""Texts of a task made safe to stand in a prompt."""

import re

from flamingo_blocks.data.documents import TAG

END = "<EOC>"  # the string of the end of a chunk, as the processor reads it
# Line breaks, other control characters and halves of surrogate pairs, which tokenizers refuse
_UNPRINTED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_TAGS = re.compile(f"{re.escape(TAG)}|{re.escape(END)}")


def without_breaks(text: str) -> str:
    r"""A text with a space in place of every line break and control character.

    Args:
        text: Any.

    Example:
        >>> without_breaks("a net\r\n")
        'a net  '
    """
    return _UNPRINTED.sub(" ", text)


def plain_field(text: str) -> tuple[str, int]:
    r"""A text in one line, without strings that a prompt reads as a tag, and how many of these there were.

    A space takes the place of a tag, so that what stood on its sides makes no new one.

    Args:
        text: What the files of a task say.

    Example:
        >>> plain_field(" What does <image>\n say? ")
        ('What does say?', 1)
    """
    found, removed = _TAGS.subn(" ", without_breaks(text))
    return " ".join(found.split()), removed
