"""How far a command is, on standard error."""

import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_CELLS = 24
_REDRAWN_S, _LINE_S = 0.1, 60.0  # how often a bar moves on a terminal, and a line is written elsewhere
_SHORT_S = 10.0  # what lasts less needs no line where no terminal is


class ProgressBars:
    """A bar for each phase of a command, with the time left.

    Where no terminal is, it is a line a minute, and one at the end of what took ten seconds. Everything goes to
    standard error and nothing is coloured. A phase whose end is not known shows how many it has done.

    Args:
        unit: What is counted where the number in all is not known.

    Example:
        >>> bars = ProgressBars()
        >>> for done in range(3):
        ...     bars("phase", done, 2)
        >>> bars.close()
    """

    def __init__(self, unit: str = "") -> None:
        self._unit = unit
        self._moves = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._phase: str | None = None
        self._done, self._total = 0, 0
        self._began = self._shown = self._first = 0.0
        self._stale = False

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Show that so many steps of a phase are done.

        Args:
            phase: Its name; another name ends the phase before.
            done: Steps so far.
            total: Of how many, where it is known.
        """
        now = time.monotonic()
        if phase != self._phase:
            self.close()
            self._phase, self._began, self._first = phase, now, done
            self._shown = now if not self._moves else 0.0
        self._done, self._total, self._stale = done, total or 0, True
        if now - self._shown >= (_REDRAWN_S if self._moves else _LINE_S):
            self._show(now)

    def clear(self) -> None:
        """Take a bar off the terminal, so that a line can stand in its place; it comes back when it moves."""
        if self._moves and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown, self._stale = 0.0, True

    def close(self) -> None:
        """Leave the last bar as it stands."""
        if self._phase is None:
            return
        now = time.monotonic()
        if self._stale and (self._moves or now - self._began >= _SHORT_S):
            self._show(now)
        if self._moves:
            print(file=sys.stderr, flush=True)
        self._phase = None

    def __enter__(self) -> "ProgressBars":  # noqa: PYI034 - the shape checks do not take `Self` in a method
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _show(self, now: float) -> None:
        line = self._line(now - self._began)
        if self._moves:
            # The last column stays free: terminals break the line behind it.
            line = f"\r{line[: shutil.get_terminal_size().columns - 1]}\x1b[K"
        print(line, end="" if self._moves else "\n", file=sys.stderr, flush=True)
        self._shown, self._stale = now, False

    def _line(self, seconds: float) -> str:
        name = f"{self._phase:22}"
        if not self._total:
            rate = f", {(self._done - self._first) / seconds:,.0f} a second" if seconds >= 1 else ""
            return f"{name} {self._done:,} {self._unit}{rate}, {_clock(seconds)}"
        share = min(self._done / self._total, 1.0)
        bar = "#" * int(share * _CELLS)
        line = f"{name} [{bar:.<{_CELLS}}] {share:4.0%} {self._done:,}/{self._total:,}, {_clock(seconds)}"
        made, left = self._done - self._first, self._total - self._done
        return f"{line}, {_clock(seconds / made * left)} left" if made > 0 and left > 0 else line


def counted(items: Iterable[Item], bars: ProgressBars, phase: str) -> Iterator[Item]:
    """The items as they come, each of which moves a bar.

    Args:
        items: Any number of them.
        bars: Where it is shown.
        phase: Its name.

    Example:
        >>> list(counted("ab", ProgressBars("letters"), "reading"))
        ['a', 'b']
    """
    number = 0
    for number, item in enumerate(items, 1):
        yield item
        bars(phase, number)
    bars(phase, number)


def _clock(seconds: float) -> str:
    """As people say it.

    Example:
        >>> _clock(3.2), _clock(200), _clock(4000)
        ('3 s', '3:20 min', '1:06 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60}:{whole % 60:02} min" if whole < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02} h"
