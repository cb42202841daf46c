"""From summaries and published rows to the curves of a picture."""

from collections.abc import Iterable, Mapping, Sequence

from flamingo_blocks.evaluation.reports.curves import Point, Series
from flamingo_blocks.evaluation.reports.published import fine_tuned, mean_of_ratios, published_curve
from flamingo_blocks.evaluation.reports.summarise import BASELINE, OWN, Summary

LINES = ("Flamingo-80B", "Flamingo-9B", "Flamingo-3B", "OpenFlamingo-9B", "OpenFlamingo-3B")


def task_series(
    summaries: Sequence[Summary], task: str, *, lines: Sequence[str] = LINES, name: str = "this model"
) -> list[Series]:
    """The curves of one task: published ones below, then baselines, controls, and the model's own on top.

    Args:
        summaries: Of a result.
        task: Name of the task.
        lines: Published models that are drawn where they have the task.
        name: What the model's own curve is called.
    """
    published = [(line, published_curve(task, line)) for line in lines]
    found = [published_series(line, curve) for line, curve in published if curve]
    groups: dict[tuple[str, str], list[Summary]] = {}
    for each in summaries:
        if each.task == task and each.place == 0 and each.mean is not None:
            groups.setdefault((each.control, each.variant), []).append(each)
    hues = {"control": 0, "baseline": 0}
    others, own = list[Series](), list[Series]()
    for (control, _), group in groups.items():
        points = tuple(map(_point, group))
        if control == OWN:
            own.append(Series(name=name, style="own", points=points))
            continue
        style = "baseline" if control.startswith(BASELINE) else "control"
        plain = tuple(Point(shots=point.shots, value=point.value) for point in points)
        others.append(
            Series(
                name=control.removeprefix(BASELINE), style="baseline" if style == "baseline" else "control",
                points=plain, hue=hues[style],
            )
        )  # fmt: skip
        hues[style] += 1
    return [*found, *reversed(others), *own]


def published_series(name: str, curve: Mapping[int, float]) -> Series:
    """A published curve.

    Args:
        name: Of its model.
        curve: Score by number of shots.
    """
    points = (Point(shots=shots, value=value) for shots, value in sorted(curve.items()))
    return Series(name=name, style="published", points=tuple(points))


def ratio_groups(
    summaries: Sequence[Summary], tasks: Iterable[str], *, lines: Sequence[str] = LINES, name: str = "this model"
) -> list[tuple[tuple[str, ...], list[Series]]]:
    """Means over tasks of score / fine-tuned score, each beside the published models that have the same tasks.

    Two curves are compared over tasks that are present in both, so models with other tasks are another group. A number
    of shots is drawn where all of the tasks have it; a published score that is out of context is that of fewer shots,
    as the paper has it.

    Args:
        summaries: Of a result.
        tasks: Names of its tasks.
        lines: Published models.
        name: What the model's own curve is called.

    Returns:
        For each group its tasks and its curves, those of most tasks first.
    """
    own = {task: _own_curve(summaries, task) for task in tasks if fine_tuned(task) is not None}
    own = {task: curve for task, curve in own.items() if curve}
    groups: dict[tuple[str, ...], list[Series]] = {}
    for line in lines:
        curves = {task: published_curve(task, line) for task in own}
        common = tuple(task for task, curve in curves.items() if curve)
        if common:
            ratios = ratio_curve({task: published_curve(task, line, carried=True) for task in common})
            groups.setdefault(common, []).append(published_series(line, ratios))
    if not groups and own:
        groups[tuple(own)] = []
    found = []
    for common, series in sorted(groups.items(), key=lambda group: -len(group[0])):
        ratios = ratio_curve({task: own[task] for task in common})
        points = tuple(Point(shots=shots, value=value) for shots, value in ratios.items())
        if points:
            found.append((common, [*series, Series(name=name, style="own", points=points)]))
    return found


def ratio_curve(curves: Mapping[str, Mapping[int, float]]) -> dict[int, float]:
    """Mean of score / fine-tuned score by number of shots, where all tasks have that number.

    Args:
        curves: Score by number of shots, by task.

    Example:
        >>> {shots: round(ratio, 1) for shots, ratio in ratio_curve({"coco": {0: 73.0, 4: 85.0}}).items()}
        {0: 50.9, 4: 59.3}
    """
    common = set.intersection(*(set(curve) for curve in curves.values())) if curves else set()
    found = {}
    for shots in sorted(common):
        ratio = mean_of_ratios({task: curve[shots] for task, curve in curves.items()})
        if ratio is not None:
            found[shots] = ratio
    return found


def _own_curve(summaries: Sequence[Summary], task: str) -> dict[int, float]:
    return {
        each.shots: each.mean
        for each in summaries
        if (each.task, each.control, each.place) == (task, OWN, 0) and each.mean is not None
    }


def _point(each: Summary) -> Point:
    assert each.mean is not None
    return Point(shots=each.shots, value=each.mean, sd=each.sd, interval=each.interval)
