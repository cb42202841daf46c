"""How `--help` is laid out: lines that fit the terminal, and examples that can be typed as they stand."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Iterable, Iterator

_WIDEST = 100  # columns: longer lines are hard to read
STATUS_COLUMNS = 7  # columns before what a status means
_WORDS = re.compile(r""""[^"]*"|'[^']*'|\S+""")


class Help(argparse.HelpFormatter):
    r"""Breaks lines at spaces alone, and commands where an option begins.

    A line break in a text is kept. A command goes on behind a `\`, as a shell reads it.
    Defaults stand behind each option that takes a value and does not tell it itself.

    Args:
        prog: Name of the command.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=26, width=help_width())

    def _split_lines(self, text: str, width: int) -> list[str]:
        return list(wrapped(text, width))

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in wrapped(text, width))

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = action.help
        if told is None or "default" in told or not (action.option_strings or action.nargs == "?"):
            return told
        plain = action.default not in (None, argparse.SUPPRESS, False, True) and not isinstance(action.default, list)
        return f"{told} (default: %(default)s)" if plain and action.nargs != 0 else told


def help_width() -> int:
    """Columns of a help text: those of the terminal less two, as argparse has it, and not too many."""
    return min(shutil.get_terminal_size().columns - 2, _WIDEST)


def wrapped(text: str, width: int) -> Iterator[str]:
    r"""Lines of a text: its own, broken where they are too long.

    Args:
        text: Some lines; those that begin with two spaces and the name of the program are commands.
        width: Most columns of a line, but for a word that is longer.

    Example:
        >>> print(*wrapped("one two three", 9), sep="\n")
        one two
        three
    """
    for line in text.splitlines():
        if line.startswith("  flamingo-blocks "):
            yield from wrapped_command(line.strip(), width)
        else:
            hang = " " * STATUS_COLUMNS if line.startswith("  ") else ""
            yield from textwrap.wrap(
                line, width, break_long_words=False, break_on_hyphens=False, subsequent_indent=hang
            ) or [""]


def wrapped_command(command: str, width: int) -> Iterator[str]:
    r"""Lines of a command that is indented by two; no option is parted from its value.

    Args:
        command: As it is typed.
        width: Most columns of a line.

    Example:
        >>> print(*wrapped_command("flamingo-blocks eval --tasks coco --shots 0,4 --out runs/eval", 40), sep="\n")
          flamingo-blocks eval --tasks coco \
              --shots 0,4 --out runs/eval
    """
    line = " "
    for unit in _units(_WORDS.findall(command)):
        if len(line) + len(unit) + 3 > width and line.strip():
            yield f"{line} \\"
            line = " " * 5
        line = f"{line} {unit}"
    yield line


def _units(words: Iterable[str]) -> Iterator[str]:
    """Words that stay together: an option with its value."""
    unit: list[str] = []
    for word in words:
        if unit and (word.startswith("-") or len(unit) == 2 or not unit[0].startswith("-")):
            yield " ".join(unit)
            unit = []
        unit.append(word)
    yield " ".join(unit)
