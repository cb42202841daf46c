"""How far a score may be off, found by drawing other sets of items from those that there are."""

import math
import random
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Metric, Score

Interval = tuple[float, float]
Statistic = Callable[[Tensor], float | None]
ROWS = 2**20  # drawn clusters that are held at once


def clustered_bootstrap(
    values: Sequence[float | None],
    clusters: Sequence[str],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a mean, from sets of whole clusters drawn with replacement.

    Several questions about one image are right or wrong together, so that images are drawn, not questions. The result
    does not depend on the order of the items.

    Args:
        values: Value of each item; None for an item that does not count.
        clusters: The image or video of each.
        num_resamples: Sets that are drawn.
        level: Share of the sets whose means lie within the interval.
        seed: Decides which sets are drawn; the same ones on every machine.

    Returns:
        Lower and upper end.

    Raises:
        ValueError: If the two differ in number, no item counts, or an option is out of range.

    Example:
        >>> low, high = clustered_bootstrap([100.0, 0.0, 100.0, 100.0], ["a", "a", "b", "c"])
        >>> low <= 75 <= high
        True
    """
    _check(len(values), clusters, num_resamples, level)
    members: dict[str, list[float]] = {name: [] for name in sorted(set(clusters))}
    for value, name in zip(values, clusters, strict=True):
        if value is not None:
            members[name].append(value)
    sums = torch.tensor([math.fsum(row) for row in members.values()], dtype=torch.float64)
    numbers = torch.tensor([len(row) for row in members.values()], dtype=torch.float64)
    if not numbers.sum():
        raise ValueError("values has no item that counts; give one value at least that is not None")
    means: list[float] = []
    for drawn in _draws(len(members), num_resamples, seed):
        counted = numbers[drawn].sum(dim=1)
        kept = counted > 0
        means.extend((sums[drawn].sum(dim=1)[kept] / counted[kept]).tolist())
    return _ends(means, level)


def metric_interval(
    metric: Metric,
    items: Sequence[TaskItem],
    predictions: Sequence[Prediction],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval | None:
    """Interval of any metric over the clusters of its items.

    Metrics that are means take the quick way of `clustered_bootstrap`, so that what they weigh items by stays as it is
    for the whole set. The others are computed again for each set that is drawn; a set for which they are not defined
    is passed over.

    Args:
        metric: The metric. One with a method `prepare(items, predictions)`, which gives a function from the number of
            times that each item comes to a value, is asked that way.
        items: The queries.
        predictions: What was answered to each.
        num_resamples: As in `clustered_bootstrap`.
        level: As in `clustered_bootstrap`.
        seed: As in `clustered_bootstrap`.

    Returns:
        Lower and upper end; None where the metric has no value.

    Raises:
        ValueError: As the metric, or `clustered_bootstrap`.

    Example:
        >>> from flamingo_blocks.evaluation.metrics import ExactMatch
        >>> items = [TaskItem(id=str(number), media=(), answers=("yes",), cluster=str(number)) for number in range(8)]
        >>> answers = ["yes"] * 6 + ["no"] * 2
        >>> said = [Prediction(task="t", id=str(k), shots=0, seed=0, answer=answer) for k, answer in enumerate(answers)]
        >>> low, high = metric_interval(ExactMatch(), items, said)
        >>> low < 75.0 < high
        True
    """
    score = metric.score(items, predictions)
    clusters = [item.cluster for item in items]
    if score.value is None:
        return None
    if score.per_item:
        return clustered_bootstrap(score.per_item, clusters, num_resamples=num_resamples, level=level, seed=seed)
    _check(len(items), clusters, num_resamples, level)
    values = _resampled([_statistic(metric, items, predictions)], clusters, num_resamples, seed)
    return _ends([value for (value,) in values], level)


def paired_difference(
    own: Score,
    other: Score,
    clusters: Sequence[str],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float]:
    """How much better one score is than another on the same items, where both are means.

    Args:
        own: A score.
        other: The one that is taken from it, of the same items in the same order.
        clusters: The image or video of each item.
        num_resamples: As in `clustered_bootstrap`.
        level: As in `clustered_bootstrap`.
        seed: As in `clustered_bootstrap`.

    Returns:
        The difference over the items that count in both, and the ends of its interval.

    Raises:
        ValueError: If the scores are of other rules or numbers of items, or are no means, or no item counts in both.

    Example:
        >>> own = Score(variant="top-1", value=50.0, per_item=(100.0, 0.0))
        >>> other = Score(variant="top-1", value=0.0, per_item=(0.0, 0.0))
        >>> paired_difference(own, other, ["a", "b"])[0]
        50.0
    """
    if own.variant != other.variant:
        raise ValueError(f"own is {own.variant}, other is {other.variant}; compare scores of one rule")
    if not own.per_item or len(own.per_item) != len(other.per_item):
        raise ValueError(
            f"own has values of {len(own.per_item)} items, other of {len(other.per_item)}; give means over the same "
            "items, or take metric_difference"
        )
    pairs = zip(own.per_item, other.per_item, strict=True)
    values = [None if one is None or two is None else one - two for one, two in pairs]
    low, high = clustered_bootstrap(values, clusters, num_resamples=num_resamples, level=level, seed=seed)
    counted = [value for value in values if value is not None]
    return math.fsum(counted) / len(counted), low, high


def metric_difference(
    metric: Metric,
    items: Sequence[TaskItem],
    own: Sequence[Prediction],
    other: Sequence[Prediction],
    *,
    num_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float, float] | None:
    """How much better some predictions score than others on the same items, by any metric.

    Args:
        metric: As in `metric_interval`.
        items: The queries.
        own: What was answered to each.
        other: What was answered otherwise, such as without the images.
        num_resamples: As in `clustered_bootstrap`.
        level: As in `clustered_bootstrap`.
        seed: As in `clustered_bootstrap`.

    Returns:
        The difference and the ends of its interval; None where the metric has no value.

    Raises:
        ValueError: As the metric, or `clustered_bootstrap`.

    Example:
        >>> from flamingo_blocks.evaluation.metrics import ExactMatch
        >>> items = [TaskItem(id=str(number), media=(), answers=("yes",)) for number in range(8)]
        >>> def said(answer):
        ...     return [Prediction(task="t", id=item.id, shots=0, seed=0, answer=answer) for item in items]
        >>> metric_difference(ExactMatch(), items, said("yes"), said("no"), num_resamples=50)
        (100.0, 100.0, 100.0)
    """
    one, two = metric.score(items, own), metric.score(items, other)
    clusters = [item.cluster for item in items]
    if one.value is None or two.value is None:
        return None
    if one.per_item:
        return paired_difference(one, two, clusters, num_resamples=num_resamples, level=level, seed=seed)
    _check(len(items), clusters, num_resamples, level)
    statistics = [_statistic(metric, items, predictions) for predictions in (own, other)]
    values = _resampled(statistics, clusters, num_resamples, seed)
    return (one.value - two.value, *_ends([first - second for first, second in values], level))


def _check(number: int, clusters: Sequence[str], num_resamples: int, level: float) -> None:
    if number != len(clusters):
        raise ValueError(f"values are of {number} items, clusters of {len(clusters)}; give one of each for every item")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}, wanted 1 at least")
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, wanted a share between 0 and 1, such as 0.95")


def _draws(number: int, num_resamples: int, seed: int) -> Iterator[Int[Tensor, "resamples clusters"]]:
    # Bytes of Python's generator are the same on every machine and in every version.
    source = random.Random(seed)  # noqa: S311 - a resampling, no secret
    rows = max(1, ROWS // number)
    for start in range(0, num_resamples, rows):
        size = min(rows, num_resamples - start)
        words = torch.frombuffer(bytearray(source.randbytes(4 * size * number)), dtype=torch.int32)
        unsigned = words.to(torch.int64) & 0xFFFFFFFF
        yield ((unsigned * number) >> 32).view(size, number)


def _statistic(metric: Metric, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Statistic:
    prepare = getattr(metric, "prepare", None)
    if prepare is not None:
        prepared: Statistic = prepare(items, predictions)
        return prepared

    def value(weights: Float[Tensor, " items"]) -> float | None:
        places = [place for place, times in enumerate(weights.tolist()) for _ in range(int(times))]
        try:
            return metric.score([items[place] for place in places], [predictions[place] for place in places]).value
        except EvaluationError:  # not defined for this set
            return None

    return value


def _resampled(
    statistics: Sequence[Statistic], clusters: Sequence[str], num_resamples: int, seed: int
) -> list[list[float]]:
    names = {name: place for place, name in enumerate(sorted(set(clusters)))}
    rows = torch.tensor([names[name] for name in clusters])
    found = []
    for drawn in _draws(len(names), num_resamples, seed):
        for row in drawn:
            weights = torch.bincount(row, minlength=len(names)).to(torch.float64)[rows]
            values = [statistic(weights) for statistic in statistics]
            defined = [value for value in values if value is not None]
            if len(defined) == len(values):
                found.append(defined)
    return found


def _ends(values: Sequence[float], level: float) -> Interval:
    if not values:
        raise EvaluationError("the metric is defined for none of the sets that were drawn; give more items")
    ordered = sorted(values)

    def at(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = math.floor(place)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (place - below) * (ordered[above] - ordered[below])

    return at((1 - level) / 2), at((1 + level) / 2)
