"""A task made ready for a run: which queries are asked, where shots come from, and what is missing."""

import hashlib
import json
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prompts import find_profile
from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.metrics_of_run import check_ready, scored_as
from flamingo_blocks.evaluation.shots import keyed_order, select_support
from flamingo_blocks.evaluation.task import Task

Unreadable = Callable[[Sequence[TaskItem]], dict[str, str]]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedTask:
    """A task with the items of a run.

    Args:
        task: The task.
        queries: What is asked, in the order of their hashes.
        support: Where shots are drawn from.
        missing: Queries whose image or clip is missing or cannot be read, by id, with the reason.
        replaced: The same for items of the support, in whose place the next hash came.
    """

    task: Task
    queries: tuple[TaskItem, ...]
    support: tuple[TaskItem, ...]
    missing: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)


def prepare_task(task: Task, config: EvalConfig, *, unreadable: Unreadable) -> PreparedTask:
    """Choose queries and support by hash, and look for their images.

    Args:
        task: The task.
        config: What decides the run.
        unreadable: Tells which of some items cannot be shown, by id, and why.

    Raises:
        EvaluationError: If an id comes twice, a metric lacks what it reads, there is nothing to ask, more images are
            missing than `max_missing`, or the support has fewer items than there are to be shots.
    """
    _check_ids(task)
    check_ready(task)
    task = scored_as(task, find_profile(config.profile).normalise)
    by_id = {item.id: item for item in task.queries}
    chosen = [by_id[each] for each in keyed_order(by_id, task=task.name, purpose="query", seed=0)[: config.num_queries]]
    missing = unreadable(chosen)
    if chosen and len(missing) > config.max_missing * len(chosen):
        each, reason = next(iter(missing.items()))
        raise EvaluationError(
            f"task {task.name}: {len(missing)} of {len(chosen)} queries cannot be shown, first {each!r}: {reason}; "
            f"fetch the files, or allow a share of them by max_missing (now {config.max_missing})"
        )
    queries = tuple(item for item in chosen if item.id not in missing)
    if not queries:
        why = f", for none of {len(missing)} can be shown: {next(iter(missing.values()))}" if missing else ""
        raise EvaluationError(f"task {task.name}: there is no query to ask{why}")
    support, replaced = _support(task, unreadable)
    return PreparedTask(task=task, queries=queries, support=support, missing=missing, replaced=replaced)


def _support(task: Task, unreadable: Unreadable) -> tuple[tuple[TaskItem, ...], dict[str, str]]:
    """The support, the next hash in the place of each item that cannot be shown."""
    replaced: dict[str, str] = {}
    left = list(task.support)
    while True:
        chosen = choose_support(task, left)
        new = unreadable(chosen)
        if not new:
            return chosen, replaced
        replaced |= new
        left = [item for item in left if item.id not in new]


def choose_support(task: Task, items: Sequence[TaskItem]) -> tuple[TaskItem, ...]:
    """The items that shots are drawn from.

    Args:
        task: The task.
        items: Those of its support that can be shown.
    """
    classes = task.classes if task.support_by_class else None
    return select_support(items, task=task.name, size=task.num_support, classes=classes)


def with_answered(prepared: PreparedTask, answered: AbstractSet[str]) -> PreparedTask:
    """The task with the queries that have an answer, by this call or one before.

    Args:
        prepared: The task.
        answered: Ids of queries.

    Raises:
        EvaluationError: If the task has no query of such an id.
    """
    task = prepared.task
    queries = tuple(item for item in task.queries if item.id in answered)
    if lost := sorted(answered - {item.id for item in queries}):
        raise EvaluationError(
            f"task {task.name} has no query {lost[0]!r}, which was answered ({len(lost)} such); give the files of then"
        )
    return replace(prepared, queries=queries)


def _check_ids(task: Task) -> None:
    for name, items in (("queries", task.queries), ("support", task.support)):
        seen: dict[str, int] = {}
        for place, item in enumerate(items):
            if (before := seen.setdefault(item.id, place)) != place:
                raise EvaluationError(
                    f"task {task.name}: {name}[{place}] has the id {item.id!r}, as {name}[{before}] has; "
                    "give each an id of its own"
                )


def hash_of_items(items: Sequence[TaskItem]) -> str:
    """A short hash of ids, texts and answers of items, to be compared with that of another run.

    Args:
        items: The items, in any order.
    """
    told = sorted([item.id, sorted(item.texts.items()), item.turns, item.answers] for item in items)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
