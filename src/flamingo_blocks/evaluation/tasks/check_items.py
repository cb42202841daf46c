"""What holds of the items of every task: they come from a split that it has, and each comes once."""

from collections.abc import Sequence
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.check_candidates import check_candidates
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.read_rows import refuse_twice

Placed = tuple[TaskItem, str]  # an item, and the file and row that it was read from


def check_split(task: str, split: str, splits: Sequence[str]) -> None:
    """Refuse a split that a task does not have.

    Args:
        task: Name of the task.
        split: The split that was asked for.
        splits: Those it has.

    Raises:
        EvaluationError: If it is not among them.
    """
    if split not in splits:
        raise EvaluationError(f"split is {split!r}, {task} has {', '.join(map(repr, splits))}")


def distinct(
    queries: Sequence[Placed], support: Sequence[Placed], *, file: Path
) -> tuple[tuple[TaskItem, ...], tuple[TaskItem, ...]]:
    """Queries and support, in which no id comes twice, and no candidate of a query.

    Args:
        queries: Queries with their places.
        support: Support with its places.
        file: Where the queries were looked for.

    Returns:
        The queries and the support, without their places.

    Raises:
        EvaluationError: If an id comes twice, told with both places, there is no query, or one has a candidate that is
            empty or comes twice.
    """
    if not queries:
        raise EvaluationError(f"{file}: has no item for the queries, wanted one at least")
    refuse_twice(((item.id, place) for placed in (support, queries) for item, place in placed), "id")
    for item, place in queries:
        check_candidates(item.candidates, of=f"{place}, query {item.id!r}")
    return tuple(item for item, _ in queries), tuple(item for item, _ in support)
