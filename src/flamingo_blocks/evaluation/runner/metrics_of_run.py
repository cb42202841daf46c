"""The metrics of a task as a run scores by them: likelihoods are compared as the profile compares them."""

from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal

from flamingo_blocks.evaluation.task import Task

Normalise = Literal["sum", "mean"]
_OTHER: dict[Normalise, Normalise] = {"sum": "mean", "mean": "sum"}


def scored_as(task: Task, normalise: Normalise) -> Task:
    """The task with metrics that rank candidates by the sum or the mean of their log-probabilities.

    The other of the two is reported beside it, behind all metrics of the task.

    Args:
        task: The task. Metrics without a field `normalise` stay as they are.
        normalise: How the profile compares candidates.

    Example:
        >>> from flamingo_blocks.evaluation.metrics import RocAuc
        >>> memes = Task(name="memes", kind="memes", answering="closed", metrics=(RocAuc(),), queries=())
        >>> [metric.variant for metric in scored_as(memes, "mean").metrics]
        ['ROC AUC(mean of log-probs)', 'ROC AUC(sum of log-probs)']
    """
    own = tuple(_ranked_by(metric, normalise) for metric in task.metrics)
    beside = tuple(_ranked_by(metric, _OTHER[normalise]) for metric in task.metrics if _ranks(metric))
    return replace(task, metrics=(*own, *beside))


def check_ready(task: Task) -> None:
    """Let each metric that reads something of its own, such as WordNet, look for it before anything is asked.

    Args:
        task: The task. Metrics without a method `ready` need nothing.

    Raises:
        EvaluationError: As the metric.
    """
    for metric in task.metrics:
        ready = getattr(metric, "ready", None)
        if callable(ready):
            ready()


def _ranks(metric: Any) -> bool:
    return is_dataclass(metric) and any(field.name == "normalise" for field in fields(metric))


def _ranked_by(metric: Any, normalise: Normalise) -> Any:
    return replace(metric, normalise=normalise) if _ranks(metric) else metric
