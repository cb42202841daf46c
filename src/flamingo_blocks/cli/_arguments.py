"""Checks of words on the command line that several commands share."""

import argparse
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

from flamingo_blocks.cli._help import Help

_ARGUMENT = re.compile(
    r"(?<!--option )\b(?P<name>(?:family|lm|vision)(?==)|leave_out|media_token_id|end_token_id)\b=?"
    r"(?P<value>(?<==)\('[^']*',\))?"
)
_OPTION = re.compile(
    r"(?<!--option )\b((?:resampler_)?(?:num_heads|head_dim)|clips|every|layers|embedding|head|num_new_tokens)=(True)?"
)
_SAID = re.compile(r"(?<!--)\boption (?=\w+=)")  # "option every=": the word for it is there already


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the word that was meant, and a hint at `--help` in place of the usage.

    Args:
        said: As `argparse.ArgumentParser` takes them.
    """

    def __init__(self, **said: Any) -> None:
        super().__init__(**{"formatter_class": Help, **said})
        self._below: Any = None
        self.set_defaults(parser=self)  # the innermost one stays: it knows the options of its command

    def add_subparsers(self, **said: Any) -> Any:
        """As `argparse.ArgumentParser` does it; `commands_below` lists them.

        Args:
            said: As there.
        """
        self._below = super().add_subparsers(**said)
        return self._below

    def commands_below(self) -> dict[str, str]:
        """The commands that were added, with what their help says in a line."""
        below = () if self._below is None else self._below._choices_actions  # noqa: SLF001 - it has no other name
        return {action.dest: action.help or "" for action in below}

    def parser_below(self, name: str) -> "OneLineParser":
        """The parser of a command that was added.

        Args:
            name: Of the command.
        """
        found: OneLineParser = self._below.choices[name]
        return found

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with status 2.

        Args:
            message: In the words of argparse.
        """
        self.exit(2, f"{self.prog}: error: {' '.join(message.split())}; see {self.prog} --help\n")

    def refuse_words(self, words: list[str]) -> NoReturn:
        """Say that the command takes no such words, and which it takes instead; end with status 2.

        Args:
            words: What was left over.
        """
        options = [word for word in self._option_string_actions if word.startswith("--")]
        asked = next((word.partition("=")[0] for word in words if word.startswith("-")), "")
        self.error(f"there is no {' '.join(words)}{_meant(asked, options)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(each) for each in action.choices]
            said = f"{value!r} is none of {', '.join(choices)}{_meant(str(value), choices)}"
            raise argparse.ArgumentError(action, said)


def near_word(word: str, words: Iterable[str]) -> str | None:
    """The one of some words that was meant, if any is near.

    Args:
        word: As it was typed.
        words: Those that there are.

    Example:
        >>> near_word("trian", ["train", "eval"])
        'train'
    """
    return next(iter(get_close_matches(word, words, n=1)), None)


def _meant(word: str, words: list[str]) -> str:
    near = near_word(word, words)
    return "" if near is None else f"; did you mean {near}"


def positive(word: str) -> int:
    """A whole number above 0."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number above 0")
    return int(word)


def natural(word: str) -> int:
    """A whole number, 0 or more."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number, 0 or more")
    return int(word)


def as_typed(message: str) -> str:
    """A message that speaks of arguments of Python, in the words of the command line.

    Args:
        message: What an error says.

    Example:
        >>> as_typed("say which with family=")
        'say which with --family'
        >>> as_typed("pass it as vision=, or leave them out with leave_out=('img.',)")
        'pass it as --vision, or leave them out with --leave-out img.'
        >>> as_typed("media_token_id is not told; pass num_heads= or clips=True")
        '--media-token-id is not told; pass --option num_heads= or --option clips=True'
        >>> as_typed("option scope= needs lm=")
        '--option scope= needs --lm'
        >>> as_typed("--option every='x'")  # is typed already
        "--option every='x'"
    """

    def typed(found: re.Match[str]) -> str:
        value = found["value"]
        return f"--{found['name'].replace('_', '-')}" + (f" {value[2:-3]}" if value else "")

    message = _SAID.sub("--option ", message)
    return _OPTION.sub(lambda found: f"--option {found[0]}", _ARGUMENT.sub(typed, message))
