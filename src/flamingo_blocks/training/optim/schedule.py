"""Learning-rate schedules: pure functions of the step, so that a run that resumes needs no scheduler state."""

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def warmup_hold_decay(*, warmup: int, steps: int | None = None, hold: float = 1.0, floor: float = 0.0) -> Schedule:
    """Rise linearly, stay, then fall linearly: the factor on every group's learning rate.

    Use it with its defaults for the paper's schedule (a warm-up, then constant); give `steps` and `hold` for a short
    run that should end cold.

    Args:
        warmup: Steps until the factor is 1. The first step is not empty: its factor is `1 / warmup`.
        steps: Length of the run, 1 or more. Needed only when `hold` is below 1.
        hold: Share of the run after which the factor falls; a step in which it ends is held yet.
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


def cosine(*, warmup: int, steps: int, floor: float = 0.0) -> Schedule:
    """Rise linearly, then fall along half a cosine: slow at first, fastest in the middle, slow at the end.

    Use it for a run of known length that should end cold, such as fine-tuning.

    Args:
        warmup: Steps until the factor is 1. The first step is not empty: its factor is `1 / warmup`.
        steps: Length of the run. The step behind the last one has the factor `floor`, so that the last is not empty.
        floor: Lowest factor of the fall, in 0..1.

    Returns:
        A function from the step, counted from 0, to the factor.

    Raises:
        ValueError: If `warmup` is negative or longer than the run, `steps` is less than 1, or `floor` is not in 0..1.

    Example:
        >>> factor = cosine(warmup=2, steps=5, floor=0.1)
        >>> [round(factor(step), 3) for step in range(6)]
        [0.5, 1.0, 0.868, 0.55, 0.232, 0.1]

    Source:
        SGDR (arXiv 1608.03983), equation 5, without its restarts. Flamingo holds its learning rate; this is for runs
        that are short.
    """
    _check_fall(warmup, floor)
    if not max(warmup, 1) <= steps:
        raise ValueError(
            f"steps is {steps} and warmup is {warmup}, wanted a run of 1 step or more, as long as its rise"
        )
    peak = max(warmup, 1) - 1

    def factor(step: int) -> float:
        if step <= peak:
            return (step + 1) / (peak + 1)
        gone = min(1.0, (step - peak) / (steps - peak))
        return floor + (1 - floor) * (1 + math.cos(math.pi * gone)) / 2

    return factor


def exponential(*, warmup: int, every: int, decay: float = 0.1, floor: float = 0.0) -> Schedule:
    """Rise linearly, then fall by the same share in every step.

    Use it for fine-tuning, as Flamingo did. It needs no length of the run.

    Args:
        warmup: Steps until the factor is 1. The first step is not empty: its factor is `1 / warmup`.
        every: Steps in which the factor falls to `decay` of what it was, smoothly.
        decay: What is left after so many steps, above 0 and at most 1.
        floor: Lowest factor of the fall, in 0..1.

    Returns:
        A function from the step, counted from 0, to the factor.

    Raises:
        ValueError: If `warmup` is negative, `every` is less than 1, `decay` is not above 0 and at most 1, or `floor` is
            not in 0..1.

    Example:
        >>> factor = exponential(warmup=2, every=2, decay=0.25, floor=0.1)
        >>> [round(factor(step), 3) for step in range(6)]
        [0.5, 1.0, 0.5, 0.25, 0.125, 0.1]

    Source:
        Flamingo (arXiv 2204.14198), appendix B.2.2: fine-tuning searches over exponential decays by factors of 10. Over
        how many steps it does not say.
    """
    _check_fall(warmup, floor)
    if every < 1:
        raise ValueError(f"every is {every}, wanted the number of steps, 1 or more, in which the factor falls to decay")
    if not 0 < decay <= 1:
        raise ValueError(f"decay is {decay}, wanted what is left of the factor, above 0 and at most 1")
    peak = max(warmup, 1) - 1

    def factor(step: int) -> float:
        if step <= peak:
            return (step + 1) / (peak + 1)
        return float(max(floor, decay ** ((step - peak) / every)))

    return factor


def _check_fall(warmup: int, floor: float) -> None:
    if warmup < 0:
        raise ValueError(f"warmup is {warmup}, wanted a number of steps, 0 or more")
    if not 0 <= floor <= 1:
        raise ValueError(f"floor is {floor}, wanted a share of the learning rate in 0..1")
