"""How a command that is stopped or fails ends: one line, and an exit status."""

import argparse
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from flamingo_blocks.cli._help import STATUS_COLUMNS
from flamingo_blocks.cli._own_errors import is_ours

FAILED, INTERRUPTED, TERMINATED = 1, 130, 143  # as shells count: 128 and the number of the signal
_MEANINGS = {
    0: "done", FAILED: "refused or failed; a line says why", 2: "the command does not take these words",
    INTERRUPTED: "stopped by Ctrl-C", TERMINATED: "stopped by SIGTERM",
}  # fmt: skip
_KEPT = "what is written under its name is whole"
_REPORT = "This is a fault of flamingo_blocks: please report it, with the command and the lines above."


class Terminated(BaseException):
    """`SIGTERM` came; raised so that what is half-written is taken away, as at Ctrl-C."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise `Terminated` at `SIGTERM`, for as long as it lasts; what handles the signal inside goes first.

    A rank of `torchrun` is ended by the system, as it is without this: a handler of Python does not run while the rank
    waits for others in a collective.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # a second one would end the cleaning up
        raise Terminated

    # Elsewhere signals cannot be handled; and who handles it already, such as a program that calls us, goes on to.
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    ours = ours and "RANK" not in os.environ
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


def output_is_closed() -> bool:
    """Whether nobody reads standard output any more."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):  # it is no file of the system
        return False
    poll = select.poll()  # only where pipes break like this
    poll.register(output, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def end_quietly() -> None:
    """Have what is still to be printed go nowhere: who reads has seen enough."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def closing(*examples: str, statuses: Sequence[tuple[int, str]] = ()) -> str:
    """What stands below the options of a command: examples, and what its exit status tells.

    Args:
        examples: Commands as they are typed.
        statuses: What a status means for this command, beside those that all have.

    Example:
        >>> print(closing("flamingo-blocks doctor", statuses=[(1, "a law fails")]))
        example:
          flamingo-blocks doctor
        <BLANKLINE>
        exit status:
          0    done
          1    a law fails
          2    the command does not take these words
          130  stopped by Ctrl-C
          143  stopped by SIGTERM
    """
    meanings = _MEANINGS | dict(statuses)
    told = [f"  {status:<{STATUS_COLUMNS - 2}}{meaning}" for status, meaning in sorted(meanings.items())]
    title = "example" if len(examples) == 1 else "examples"
    return "\n".join([f"{title}:", *(f"  {example}" for example in examples), "", "exit status:", *told])
