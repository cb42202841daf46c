"""What a step of training did."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite


@dataclass(frozen=True)
class StepReport:
    """What one step did, summed over all ranks.

    Args:
        step: Its number, from 0.
        losses: Loss of each data set, before its weight.
        grad_norm: Norm of the gradient over all trained parameters, before clipping.
        tokens: Text tokens of each data set's batch, those of all ranks together.
        items: Images and clips of each data set's batch, likewise.
        lr: Learning rate of the groups without a factor of their own.
        seconds: From the drawing of the batches to the end of the update.
        skipped: Whether the update was left out, since the gradient was not finite.

    Example:
        >>> StepReport(0, {"pages": float("nan")}, 1.0).finite
        False
    """

    step: int
    losses: Mapping[str, float]
    grad_norm: float
    tokens: Mapping[str, int] = field(default_factory=dict)
    items: Mapping[str, int] = field(default_factory=dict)
    lr: float = 0.0
    seconds: float = 0.0
    skipped: bool = False

    @property
    def finite(self) -> bool:
        """Whether every loss and the gradient are numbers."""
        return all(map(isfinite, (*self.losses.values(), self.grad_norm)))

    @property
    def tokens_per_s(self) -> float:
        """Text tokens of all data sets in a second; 0 where no time was taken."""
        return sum(self.tokens.values()) / self.seconds if self.seconds > 0 else 0.0

    @property
    def items_per_s(self) -> float:
        """Images and clips in a second, likewise."""
        return sum(self.items.values()) / self.seconds if self.seconds > 0 else 0.0
