"""The command line: `flamingo-blocks <command>`, one file a command."""

import argparse
import sys
from collections.abc import Sequence

from flamingo_blocks._version import __version__
from flamingo_blocks.cli import _data, convert, demo, doctor, evaluate, explain, generate, inspect, train
from flamingo_blocks.cli._arguments import OneLineParser
from flamingo_blocks.cli._ending import (
    FAILED,
    INTERRUPTED,
    TERMINATED,
    Terminated,
    ask_for_report,
    end_quietly,
    output_is_closed,
    say_stopped,
    terminable,
)
from flamingo_blocks.cli._overview import OverviewParser
from flamingo_blocks.cli._own_errors import in_one_line
from flamingo_blocks.errors import FlamingoBlocksError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words of the command line after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 after an error that was printed, 2 without a command, 130 when Ctrl-C came and 143 when
        `SIGTERM` did.

    Raises:
        SystemExit: With status 2 if the words are none that a command takes, after one line on standard error.

    Example:
        >>> main(["inspect", "nowhere.pt"])  # one line on standard error says what is wrong
        1
    """
    parsed = _parsed(arguments)
    if not hasattr(parsed, "run"):
        parsed.parser.print_help(sys.stderr)
        return 2
    try:
        with terminable():
            status: int = parsed.run(parsed)
            sys.stdout.flush()
    except FlamingoBlocksError as error:
        print(f"flamingo-blocks: error: {in_one_line(error)}", file=sys.stderr)
        return FAILED
    except (KeyboardInterrupt, Terminated) as signalled:
        say_stopped(parsed)
        return TERMINATED if isinstance(signalled, Terminated) else INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and output_is_closed():
            end_quietly()
            return FAILED
        ask_for_report(error)
        raise
    return status


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What the words ask for."""
    parser = OverviewParser(prog="flamingo-blocks")
    parser.add_argument("--version", action="version", version=f"flamingo-blocks {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", parser_class=OneLineParser)
    for command in (doctor, demo, generate, convert, inspect, _data, train, evaluate, explain):
        command.add_to(commands)
    parsed, others = parser.parse_known_args(arguments)
    if others and hasattr(parsed, "settings") and all("=" in word and not word.startswith("-") for word in others):
        parsed.settings = [*parsed.settings, *others]  # words behind an option, which argparse leaves aside
    elif others:
        parsed.parser.refuse_words(others)
    return parsed
