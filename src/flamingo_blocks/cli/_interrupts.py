"""Ctrl-C while a run trains: the step at hand is ended and saved, as at `SIGTERM`."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flamingo_blocks.training.stop import StopRequest

SIGINT = "SIGINT"
_TOLD = "\nflamingo-blocks: Ctrl-C: the step at hand is ended and saved; again: end at once"


@contextmanager
def saved_at_interrupt() -> Iterator[None]:
    """Hand the first Ctrl-C to the training loop, if one waits for signals; any other ends the command at once.

    Under `torchrun` none but the loop gets it: there one Ctrl-C comes to a process twice, from the terminal and from
    `torchrun`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    waiting = signal.getsignal(signal.SIGTERM)
    if not isinstance(waiting, StopRequest):
        raise KeyboardInterrupt
    if not waiting:
        waiting(number, frame)
        os.write(sys.stderr.fileno(), f"{_TOLD}\n".encode())  # `print` may be at work in the frame that was left
    elif "RANK" not in os.environ:
        raise KeyboardInterrupt
