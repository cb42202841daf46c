"""What gives the shots of a query."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem


@runtime_checkable
class ShotSource(Protocol):
    """Chooses the shots of each query.

    What it gives depends on the query, the number of shots and what the source was made with, and on no call before.
    The query is never among its shots, nor what shows the same picture.

    Example:
        >>> class TheFirst:
        ...     excluded = {}
        ...
        ...     def __init__(self, support):
        ...         self.support = support
        ...
        ...     def draw(self, query, shots):
        ...         return tuple(item for item in self.support if item.id != query.id)[:shots]
        >>> items = [TaskItem(id=name, media=()) for name in ("cat", "dog", "hen")]
        >>> isinstance(TheFirst(items), ShotSource), [shot.id for shot in TheFirst(items).draw(items[0], 2)]
        (True, ['dog', 'hen'])
    """

    @property
    def excluded(self) -> Mapping[str, int]:
        """How many items were passed over for showing the query's own picture, by the id of the query."""

    def draw(self, query: TaskItem, shots: int) -> tuple[TaskItem, ...]:
        """The shots of a query, first to last in the prompt.

        Args:
            query: What is asked.
            shots: How many.

        Raises:
            ValueError: If `shots` is negative.
            EvaluationError: If fewer may be shown.
        """


def check_shots(shots: int) -> None:
    """Refuse a number of shots that is none.

    Args:
        shots: How many were asked for.

    Raises:
        ValueError: If it is negative.
    """
    if shots < 0:
        raise ValueError(f"shots is {shots}, wanted 0 or more")


def too_few(query: TaskItem, shots: int, *, task: str, left: int, of: int) -> EvaluationError:
    """An error for a support that is too small, to be raised.

    Args:
        query: What is asked.
        shots: How many were asked for.
        task: Name of the task, or "".
        left: How many may be shown.
        of: How many the support has.
    """
    if not of:
        return EvaluationError(f"{f'task {task!r}' if task else 'the support'} has no shots; ask it with 0 shots")
    of_task = f"task {task!r}: " if task else ""
    without = f", {left} of them without the query and its picture" if left < of else ""
    return EvaluationError(
        f"{of_task}{shots} shots are asked for query {query.id!r}, and its support has {of}{without}; "
        "ask for fewer, or give more support"
    )
