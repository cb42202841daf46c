"""Bars that show how far a command is."""

import sys
from typing import Any

from flamingo_blocks._optional import require


class ProgressBars:
    """A bar on standard error for each phase of a command, with the time left.

    Args:
        used_by: The command.
        extra: What brings `tqdm` for it.
    """

    def __init__(self, *, used_by: str, extra: str) -> None:
        self._tqdm = require("tqdm", used_by=used_by, extra=extra).tqdm
        self._bar: Any = None
        self._phase = ""

    def __call__(self, phase: str, done: int, total: int) -> None:
        """Show that so many steps of a phase are done."""
        if phase != self._phase:
            self.close()
            self._phase = phase
            self._bar = self._tqdm(desc=f"{phase:22}", total=total, file=sys.stderr, dynamic_ncols=True)
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """Leave the last bar as it stands."""
        if self._bar is not None:
            self._bar.close()
