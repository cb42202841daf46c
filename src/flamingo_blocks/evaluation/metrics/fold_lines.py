"""Answers as one line, which every metric begins with."""

import unicodedata


def fold_lines(text: str) -> str:
    """Put a space in place of each line break and control character, of whatever script.

    A tokenizer that reads one caption a line takes such a character for the end of the caption, and gives every later
    one to the wrong image.

    Args:
        text: An answer.

    Returns:
        The text on one line, as long as before.

    Example:
        >>> fold_lines("a dog" + chr(0x2028) + "on a sofa")
        'a dog on a sofa'
    """
    if text.isprintable():
        return text
    return "".join(" " if unicodedata.category(letter) in {"Cc", "Zl", "Zp"} else letter for letter in text)
