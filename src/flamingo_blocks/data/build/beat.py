"""Where a worker is, told through a piece of shared memory: a store costs nothing, and outlives who made it."""

import enum
from typing import Any


class Phase(enum.IntEnum):
    """What a worker does; all but `PROCESSING` is the shard's affair and no record's."""

    READING = 0
    PROCESSING = 1
    WRITING = 2

    @property
    def words(self) -> str:
        """How a message says it."""
        return self.name.lower()


class Beat:
    """The phase of a worker and the number of its record, as one integer that is written at once.

    Args:
        cell: An array of one signed 64-bit integer in shared memory.
    """

    def __init__(self, cell: Any) -> None:
        self.cell = cell

    def at(self, phase: Phase, number: int) -> None:
        """Say where the worker is."""
        self.cell[0] = number << 2 | phase

    def place(self) -> tuple[Phase, int]:
        """Where the worker is, or was when it died."""
        return Phase(self.cell[0] & 3), self.cell[0] >> 2
