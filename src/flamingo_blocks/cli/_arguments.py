"""Checks of words on the command line that several commands share."""

import argparse
import re
from typing import NoReturn

_ARGUMENT = re.compile(
    r"(?<!--option )\b(?P<name>(?:family|lm|vision)(?==)|leave_out|media_token_id|end_token_id)\b=?"
    r"(?P<value>(?<==)\('[^']*',\))?"
)
_OPTION = re.compile(
    r"(?<!--option )\b((?:resampler_)?(?:num_heads|head_dim)|clips|every|layers|embedding|head|num_new_tokens)=(True)?"
)
_SAID = re.compile(r"(?<!--)\boption (?=\w+=)")  # "option every=": the word for it is there already


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line, with a hint at `--help` in place of the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and end with status 2.

        Args:
            message: In the words of argparse.
        """
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help\n")


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
