"""Cells of several seeds, taken together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from flamingo_blocks.evaluation.results import Cell, EvaluationResult

OWN = "none"  # the control of the model's own score
BASELINE = "baseline:"  # how controls begin that are answers without a model
STOPPED = "stopped_by_"  # how counts begin that say what stopped the writing


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One score of one task, control and number of shots over all seeds.

    Args:
        task: Name of the task.
        control: As in `Cell`.
        shots: Number of shots.
        place: Which of the cell's scores it is; 0 for the headline.
        variant: The rule that it was found by.
        seeds: Seeds with a value, in order.
        mean: Over those seeds; None without any.
        sd: Standard deviation over them (n - 1); None of fewer than two.
        interval: 95 % intervals of the seeds, their ends averaged; None if one has none.
        difference: Own score less this control's, with its interval, averaged in the same way.
        rates: Of the headline: shares averaged over all seeds, those of the queries at which each thing stopped the
            writing among them.

    Example:
        >>> from flamingo_blocks.evaluation.score import Score
        >>> def cell(control, seed, value):
        ...     scores = (Score(variant="VQA(official)", value=value),)
        ...     return Cell(task="t", shots=4, seed=seed, control=control, scores=scores)
        >>> cells = (cell("none", 0, 50.0), cell("none", 1, 52.0), cell("blind", 0, 40.0))
        >>> found = summarise(EvaluationResult(cells=cells, run={}, tasks={"t": {}}))
        >>> [(summary.control, summary.mean, summary.seeds) for summary in found]
        [('none', 51.0, (0, 1)), ('blind', 40.0, (0,))]
    """

    task: str
    control: str
    shots: int
    place: int
    variant: str
    seeds: tuple[int, ...]
    mean: float | None
    sd: float | None
    interval: tuple[float, float] | None = None
    difference: tuple[float, float, float] | None = None
    rates: Mapping[str, float] = field(default_factory=dict)


def summarise(result: EvaluationResult) -> tuple[Summary, ...]:
    """Mean and spread over the seeds of each score.

    Scores of two variants are never averaged: each has a summary of its own.

    Args:
        result: What an evaluation found.

    Returns:
        Summaries sorted by task, the model's own first, then controls, then baselines; by shots, and by the order of
        the scores.

    Example:
        >>> from flamingo_blocks.evaluation.score import Score
        >>> cells = [
        ...     Cell(task="t", shots=4, seed=seed, scores=(Score(variant="VQA(official)", value=value),))
        ...     for seed, value in enumerate((50.0, 52.0))
        ... ]
        >>> (summary,) = summarise(EvaluationResult(cells=tuple(cells), run={}, tasks={"t": {}}))
        >>> summary.mean, round(summary.sd, 3), summary.seeds
        (51.0, 1.414, (0, 1))
    """
    groups: dict[tuple[str, tuple[int, str], int, int, str], list[Cell]] = {}
    for cell in result.cells:
        for place, score in enumerate(cell.scores):
            key = (cell.task, control_rank(cell.control), cell.shots, place, score.variant)
            groups.setdefault(key, []).append(cell)
    return tuple(_summary(cells, key[3], key[4]) for key, cells in sorted(groups.items(), key=lambda group: group[0]))


def control_rank(control: str) -> tuple[int, str]:
    """Sorts the model's own before its controls, and those before the baselines."""
    return (0 if control == OWN else 2 if control.startswith(BASELINE) else 1, control)


def _summary(cells: Sequence[Cell], place: int, variant: str) -> Summary:
    first, valued = cells[0], []
    for cell in sorted(cells, key=lambda cell: cell.seed):
        value = cell.scores[place].value
        if value is not None:
            valued.append((cell, value))
    values = [value for _, value in valued]
    intervals = [cell.interval if place == 0 else None for cell, _ in valued]
    differences = [cell.difference if place == 0 else None for cell, _ in valued]
    return Summary(
        task=first.task, control=first.control, shots=first.shots, place=place, variant=variant,
        seeds=tuple(cell.seed for cell, _ in valued),
        mean=fmean(values) if values else None,
        sd=stdev(values) if len(values) > 1 else None,
        interval=_two(_averaged(intervals)),
        difference=_three(_averaged(differences)),
        rates=_rates(cells) if place == 0 else {},
    )  # fmt: skip


def _rates(cells: Sequence[Cell]) -> dict[str, float]:
    shares = [{**cell.rates, **_stopped(cell)} for cell in cells]
    return {name: fmean(share[name] for share in shares if name in share) for name in sorted(set().union(*shares))}


def _stopped(cell: Cell) -> dict[str, float]:
    """Shares of what stopped the writing among the queries asked."""
    asked = cell.counts.get("asked", 0)
    found = {name: count for name, count in cell.counts.items() if name.startswith(STOPPED)}
    return {name: count / asked for name, count in found.items()} if asked else {}


def _averaged(parts: Iterable[tuple[float, ...] | None]) -> tuple[float, ...]:
    """Averages of first, second, .. parts; nothing if one is not there."""
    found = list(parts)
    whole = [part for part in found if part is not None]
    return tuple(map(fmean, zip(*whole, strict=True))) if len(whole) == len(found) else ()


def _two(parts: tuple[float, ...]) -> tuple[float, float] | None:
    return (parts[0], parts[1]) if parts else None


def _three(parts: tuple[float, ...]) -> tuple[float, float, float] | None:
    return (parts[0], parts[1], parts[2]) if parts else None
