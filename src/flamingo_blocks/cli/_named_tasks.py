"""Tasks, by the names that the command line has for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.synthetic import SYNTHETIC, synthetic_task
from flamingo_blocks.evaluation.task import Task
from flamingo_blocks.evaluation.tasks import TASKS, read_custom_task, read_task
from flamingo_blocks.evaluation.tasks.registry import nearest_names

DEMO = "demo"
QUERIES = 200  # of a synthetic task
_CLOSED = {"binding:closed": "binding", "matching:closed": "matching"}
_SUITE: dict[str, dict[str, Any]] = (
    {name: {"name": name} for name in SYNTHETIC}
    | {form: {"name": name, "answering": "closed"} for form, name in _CLOSED.items()}
    | {f"{name}_closed": {"name": name, "answering": "closed"} for name in _CLOSED.values()}
)
OF_SUITE = (*SYNTHETIC, *_CLOSED)


def read_named_tasks(names: Sequence[str], *, data: Path | None, queries: int | None, seed: int) -> list[Task]:
    """Tasks by their names, which are all looked at before any is read.

    Args:
        names: Short names, `NAME:SPLIT`, those of the synthetic suite, or files.
        data: Folder with a folder for each task that is read from official files.
        queries: How many a synthetic task has.
        seed: Of the synthetic suite.

    Raises:
        EvaluationError: If a name is none, or there is no folder for a task that is read from one.
    """
    for name in names:
        _check(name, data)
    return [_read(name, data, queries or QUERIES, seed) for name in names]


def check_shots(tasks: Sequence[Task], shots: Sequence[int]) -> None:
    """Refuse more shots than a task has, before any task is asked.

    Args:
        tasks: The tasks.
        shots: Numbers of shots.

    Raises:
        EvaluationError: If a task has fewer shots than the largest of them.
    """
    for task in tasks:
        own = [len(query.support) for query in task.queries if query.support is not None]
        most = min(own) if own else len(task.support)
        if not most and max(shots):
            raise EvaluationError(f"task {task.name} has no shots; ask it by a command of its own, with --shots 0")
        if most < max(shots):
            fewer = ",".join(str(number) for number in shots if number <= most)
            raise EvaluationError(
                f"--shots asks {max(shots)}, and task {task.name} has {most} at most; ask --shots {fewer or most}"
            )


def with_own_shots(tasks: Sequence[Task]) -> list[str]:
    """Names of the tasks whose queries bring their shots, so that none are chosen for them.

    Args:
        tasks: The tasks.
    """
    return [task.name for task in tasks if any(query.support is not None for query in task.queries)]


def _is_file(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml", ".json")


def _check(name: str, data: Path | None) -> None:
    if name == DEMO:
        raise EvaluationError("--tasks has demo beside others; its pictures are the demo's own, so ask it alone")
    if name in _SUITE or _is_file(name):
        return
    task = name.partition(":")[0]
    if task in SYNTHETIC:
        forms = [form for form in OF_SUITE if form.partition(":")[0] == task]
        raise EvaluationError(f"--tasks has {name!r}, wanted {' or '.join(forms)}")
    if task not in TASKS:
        known = (*TASKS, *OF_SUITE, DEMO)
        near = nearest_names(name, known) or nearest_names(task, known)
        meant = f", did you mean {near[0]!r}? The" if near else "; the"
        raise EvaluationError(f"task is {name!r}{meant} tasks are {', '.join(known)}, or a file TASK.yaml of your own")
    if data is None:
        raise EvaluationError(
            f"--data names no folder, which task {task} is read from; wanted one with a folder {task}"
        )


def _read(name: str, data: Path | None, queries: int, seed: int) -> Task:
    if name in _SUITE:
        return synthetic_task(**_SUITE[name], queries=queries, seed=seed)
    if _is_file(name):
        return read_custom_task(Path(name))
    assert data is not None  # it was looked at
    task, _, split = name.partition(":")
    return read_task(task, data, split or None)
