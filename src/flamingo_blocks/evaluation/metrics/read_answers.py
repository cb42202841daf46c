"""Answers as all metrics take them, and the mean that most of them give."""

import math
from collections.abc import Iterable, Sequence

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.fold_lines import fold_lines
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import check_answers


def read_answers(items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> tuple[list[str], dict[str, int]]:
    """The answer to each item on one line, and how many of them are out of the ordinary.

    Args:
        items: The queries.
        predictions: What was answered to each.

    Returns:
        The answers, those of white space alone as `""`; and the counts `asked`, `empty` (scored as `""`) and
        `non_ascii`.

    Raises:
        ValueError: If they differ in number or in their ids.
    """
    check_answers(items, predictions)
    folded = [fold_lines(prediction.answer) for prediction in predictions]
    answers = [answer if answer.strip() else "" for answer in folded]
    counts = {
        "asked": len(answers),
        "empty": sum(not answer for answer in answers),
        "non_ascii": sum(not answer.isascii() for answer in answers),
    }
    return answers, counts


def percent(values: Iterable[float | None]) -> float | None:
    """A hundred times the mean of what is there, exact before it is rounded, so that no order changes it.

    Args:
        values: Values; None for an item that does not count.

    Returns:
        The mean, or None where no item counts.

    Example:
        >>> percent([1.0, None, 0.5])
        75.0
    """
    counted = [value for value in values if value is not None]
    return 100 * math.fsum(counted) / len(counted) if counted else None


def percents(values: Iterable[float | None]) -> tuple[float | None, ...]:
    """Each value a hundred times.

    Args:
        values: Values; None for an item that does not count.

    Returns:
        The values, None where there was none.
    """
    return tuple(None if value is None else 100 * value for value in values)


def percent_by(names: Iterable[str], values: Iterable[float | None]) -> dict[str, float]:
    """The mean of the values under each name, in percent, by name.

    Args:
        names: The part that each item belongs to.
        values: Its value; None for an item that does not count.

    Returns:
        The means of the parts that have an item that counts, sorted by name.
    """
    parts: dict[str, list[float | None]] = {}
    for name, value in zip(names, values, strict=True):
        parts.setdefault(name, []).append(value)
    means = {name: percent(part) for name, part in sorted(parts.items())}
    return {name: mean for name, mean in means.items() if mean is not None}
