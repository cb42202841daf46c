"""Asking a run to end: a signal is remembered, and the run saves and ends at the next step."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether somebody wants the run to end.

    Example:
        >>> stop = StopRequest()
        >>> before = bool(stop)
        >>> stop(signal.SIGTERM, None)  # what a handler of the signal does
        >>> before, bool(stop), stop.name
        (False, True, 'SIGTERM')
    """

    def __init__(self) -> None:
        self.name: str | None = None
        """Of the signal that came."""

    def __bool__(self) -> bool:
        return self.name is not None

    def __call__(self, number: int, _: FrameType | None) -> None:
        """Remember a signal; nothing else is safe to do while one is handled."""
        self.name = signal.Signals(number).name


@contextmanager
def stop_on(names: Sequence[str] = ("SIGTERM", "SIGUSR1")) -> Iterator[StopRequest]:
    """Remember signals that ask for the end; what handled them before does so again afterwards.

    Schedulers of clusters send `SIGTERM` some time before they kill, and `torchrun` sends it when another process has
    failed. Signals can be handled in the main thread only: elsewhere none is.

    Args:
        names: Of the signals; those that this system lacks are passed over.

    Yields:
        True once one has come.

    Example:
        >>> with stop_on(["SIGUSR1"]) as stop:
        ...     signal.raise_signal(signal.SIGUSR1)
        ...     bool(stop), stop.name
        (True, 'SIGUSR1')
    """
    stop = StopRequest()
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in names:
            if (number := getattr(signal, name, None)) is not None:
                before[number] = signal.signal(number, stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
