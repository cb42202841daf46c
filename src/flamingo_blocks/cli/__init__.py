"""The command line: `flamingo-blocks <command>`, one file a command."""

import os
import sys
from collections.abc import Sequence

from flamingo_blocks.cli import _data, convert, demo, doctor, evaluate, explain, generate, inspect, train
from flamingo_blocks.cli._arguments import OneLineParser
from flamingo_blocks.cli._own_errors import in_one_line
from flamingo_blocks.errors import FlamingoBlocksError

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: Words of the command line after the program's name; those of the process by default.

    Returns:
        The exit status: 0, 1 after an error that was printed, or 130 when it was interrupted.

    Raises:
        SystemExit: With status 2 if the words are none that a command takes, after one line on standard error.

    Example:
        >>> main(["inspect", "nowhere.pt"])  # one line on standard error says what is wrong
        1
    """
    parser = OneLineParser(prog="flamingo-blocks", description="Flamingo in parts, and what they compose into.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in (doctor, demo, generate, convert, inspect, _data, train, evaluate, explain):
        command.add_to(commands)
    parsed, others = parser.parse_known_args(arguments)
    if others and hasattr(parsed, "settings") and all("=" in word and not word.startswith("-") for word in others):
        parsed.settings = [*parsed.settings, *others]  # words behind an option, which argparse leaves aside
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    try:
        status: int = parsed.run(parsed)
        sys.stdout.flush()
    except FlamingoBlocksError as error:
        print(f"flamingo-blocks: {in_one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("flamingo-blocks: stopped; what is written under its name is whole", file=sys.stderr)
        return 130
    except BrokenPipeError:  # who reads has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left is flushed there at the end
        return 1
    return status
