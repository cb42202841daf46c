"""How a command that is stopped or fails ends: one line, and an exit status."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flamingo_blocks.cli._own_errors import is_ours

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143  # as shells count: 128 and the number of the signal
_KEPT = "what is written under its name is whole"
_REPORT = "This is a fault of flamingo_blocks: please report it, with the command and the lines above."


class Terminated(BaseException):
    """`SIGTERM` came; raised so that what is half-written is taken away, as at Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` at `SIGTERM`, for as long as it lasts; what handles the signal inside goes first."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        raise Terminated

    # Elsewhere signals cannot be handled; and who handles it already, such as a program that calls us, goes on to.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def say_stopped(arguments: argparse.Namespace) -> None:
    """Say in a line what is kept, and how to go on.

    Args:
        arguments: Of the command; its `kept` tells.
    """
    print(f"flamingo-blocks: stopped; {getattr(arguments, 'kept', _KEPT)}", file=sys.stderr)


def ask_for_report(error: Exception) -> None:
    """Ask, below the trace of an error that nobody foresaw, to report it, if it is ours.

    Args:
        error: What goes on up.
    """
    if is_ours(error):
        error.add_note(_REPORT)


def end_quietly() -> None:
    """Have what is still to be printed go nowhere: who reads has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
