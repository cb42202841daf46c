"""How far a command is, on standard error."""

import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

Item = TypeVar("Item")

_LINE_S = 60.0  # how often a line is written where no terminal is
_SHORT_S = 10.0  # what lasts less needs none there


class ProgressBars:
    """A bar of tqdm for each phase of a command, with the time left.

    Where no terminal is, it is a line a minute, and none before ten seconds have passed. Everything goes to standard
    error and nothing is coloured. A phase whose end is not known shows how many it has done. The extras of commands
    that work long bring tqdm; without it nothing is shown.

    Args:
        unit: What is counted where the number in all is not known.

    Example:
        >>> bars = ProgressBars()
        >>> for done in range(3):
        ...     bars("phase", done, 2)
        >>> bars.close()
    """

    def __init__(self, unit: str = "step") -> None:
        self._tqdm = _tqdm()
        self._unit = unit
        self._bar: Any = None
        self._phase: str | None = None

    def __call__(self, phase: str, done: int, total: int | None = None) -> None:
        """Show that so many steps of a phase are done.

        Args:
            phase: Its name; another name ends the phase before.
            done: Steps so far.
            total: Of how many, where it is known.
        """
        if self._tqdm is None:
            return
        if phase != self._phase:
            self.close()
            self._phase, self._bar = phase, self._begun(phase, done, total)
        self._bar.update(done - self._bar.n)

    def clear(self) -> None:
        """Take a bar off the terminal, so that a line can stand in its place; it comes back when it moves."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Leave the last bar as it stands."""
        if self._bar is not None:
            self._bar.close()
        self._bar = self._phase = None

    def __enter__(self) -> "ProgressBars":  # noqa: PYI034 - the shape checks do not take `Self` in a method
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _begun(self, phase: str, done: int, total: int | None) -> Any:
        assert self._tqdm is not None
        shown = {"desc": f"{phase:22}", "initial": done, "total": total, "unit": f" {self._unit}", "ascii": True}
        if sys.stderr.isatty():
            return self._tqdm(**shown, file=sys.stderr, dynamic_ncols=True)
        return self._tqdm(**shown, file=_Lines(), ncols=100, mininterval=_LINE_S, delay=_SHORT_S)


class _Lines:
    """Standard error for a bar that does not move: each of its states is a line."""

    def write(self, text: str) -> None:
        if state := text.strip():
            print(state, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


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


def _tqdm() -> Any:
    try:
        from tqdm import tqdm  # noqa: PLC0415 - not everybody has it
    except ImportError:
        return None
    return tqdm
