"""What a checkpoint gave."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What `Checkpointer.load` read, beside what it put into model and optimiser.

    Args:
        step: Updates that were made.
        state: As it was saved.
        config: As it was saved.
        metrics: As they were saved.
        differences: What is another here than it was, a sentence each: hyper-parameters of the optimiser, of which
            those of here count; versions; the number of processes.
        passed_over: Newer checkpoints that are damaged, a sentence each: what is wrong, and where they are now.

    Example:
        >>> Loaded(step=3, state={}, config={}, metrics={}).differences
        ()
    """

    step: int
    state: Mapping[str, Any]
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    differences: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
