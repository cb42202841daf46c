"""The numbers that VL-ICL Bench sums a curve over shots up in."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class VlIclSummary:
    """A curve over shots in four numbers.

    Args:
        zero_shot: Score without shots.
        best: Best score over all numbers of shots, 0 included.
        best_shots: The fewest shots that reach it.
        efficiency: Mean over the other numbers of shots of what each gains over `zero_shot`; negative where shots
            harm.

    Example:
        >>> summary = vl_icl_summary({0: 50.0, 2: 60.0, 4: 80.0, 8: 70.0})
        >>> summary.best, summary.best_shots, summary.efficiency
        (80.0, 4, 20.0)
    """

    zero_shot: float
    best: float
    best_shots: int
    efficiency: float


def vl_icl_summary(curve: Mapping[int, float]) -> VlIclSummary:
    """Sum a curve up as VL-ICL Bench does: 0-shot, peak, and efficiency of learning in context.

    Args:
        curve: Score by number of shots, 0 and another one among them.

    Raises:
        ValueError: If 0 is missing, or there is nothing else.

    Example:
        >>> vl_icl_summary({0: 50.0, 2: 60.0, 4: 80.0, 8: 70.0})
        VlIclSummary(zero_shot=50.0, best=80.0, best_shots=4, efficiency=20.0)

    Source:
        VL-ICL Bench (arXiv 2403.13164) reports these three for each task. It draws its curves over 0, 1, 2, 4 and 8
        shots, each counted once here, whatever the distance between them.
    """
    if 0 not in curve or len(curve) < 2:
        told = ", ".join(map(str, sorted(curve))) or "none"
        raise ValueError(f"curve has the numbers of shots {told}, wanted 0 and one more at least")
    zero = curve[0]
    best_shots = min(curve, key=lambda shots: (-curve[shots], shots))
    gains = [score - zero for shots, score in curve.items() if shots]
    return VlIclSummary(
        zero_shot=zero, best=curve[best_shots], best_shots=best_shots, efficiency=sum(gains) / len(gains)
    )
