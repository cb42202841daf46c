"""How far a run is, and how long its phases took."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, int, int], None]


class Stopwatch:
    """Wall-clock seconds of each phase, and progress reports within it."""

    def __init__(self, on_progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._on_progress = on_progress

    @contextmanager
    def phase(self, name: str, total: int) -> Iterator[Callable[..., None]]:
        """Time a phase of `total` steps; call what is given after each of them."""
        start, done = time.perf_counter(), 0

        def advance(*_: Any) -> None:
            nonlocal done
            done += 1
            self._on_progress(name, done, total)

        self._on_progress(name, 0, total)
        yield advance
        self.seconds[name] = round(time.perf_counter() - start, 2)
