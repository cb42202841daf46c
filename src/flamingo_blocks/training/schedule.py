"""Learning-rate schedules: pure functions of the step, so that a run that resumes needs no scheduler state."""

from collections.abc import Callable

Schedule = Callable[[int], float]


def warmup_hold_decay(*, warmup: int, steps: int | None = None, hold: float = 1.0, floor: float = 0.0) -> Schedule:
    """Rise linearly, stay, then fall linearly: the factor on every group's learning rate.

    Use it with its defaults for the paper's schedule (a warm-up, then constant); give `steps` and `hold` for a short
    run that should end cold.

    Args:
        warmup: Steps until the factor is 1. The first step is not empty: its factor is `1 / warmup`.
        steps: Length of the run, 1 or more. Needed only when `hold` is below 1.
        hold: Share of the run after which the factor falls.
        floor: Lowest factor of the fall.

    Returns:
        A function from the step, counted from 0, to the factor.

    Raises:
        ValueError: If `hold` is below 1 and `steps` is not given, `hold` is not in 0..1, or `steps` is less than 1.

    Example:
        >>> factor = warmup_hold_decay(warmup=2, steps=10, hold=0.5)
        >>> [factor(step) for step in (0, 1, 5, 9)]
        [0.5, 1.0, 1.0, 0.2]

    Source:
        Flamingo (arXiv 2204.14198), appendix B.1.2: linear warm-up, then constant. The fall is ours, for short runs.
    """
    if not 0 <= hold <= 1:
        raise ValueError(f"hold is {hold}, wanted a share of the run in 0..1")
    if hold < 1 and steps is None:
        raise ValueError(f"hold is {hold}, so the factor falls before the end: give steps, the length of the run")
    if steps is not None and steps < 1:
        raise ValueError(f"steps is {steps}, wanted 1 or more, or None for a run that does not end cold")

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / max(warmup, 1))
        if steps is None or hold == 1 or step < steps * hold:  # schedulers of torch ask for the step behind the last
            return rise
        return rise * max(floor, (steps - step) / (steps * (1 - hold)))

    return factor
