"""Items by what tells them apart."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem


def by_id(items: Iterable[TaskItem], of: str = "the support") -> dict[str, TaskItem]:
    """Items by their ids.

    Args:
        items: Any.
        of: What they are, in an error.

    Raises:
        EvaluationError: If two have one id.
    """
    found: dict[str, TaskItem] = {}
    for item in items:
        if item.id in found:
            raise EvaluationError(f"the id {item.id!r} comes twice in {of}; each item needs one of its own")
        found[item.id] = item
    return found


def by_class(items: Iterable[TaskItem], classes: Callable[[TaskItem], str]) -> dict[str, list[TaskItem]]:
    """Items by their classes, in the order in which they come.

    Args:
        items: Any.
        classes: Tells the class of an item.
    """
    found: dict[str, list[TaskItem]] = {}
    for item in items:
        found.setdefault(classes(item), []).append(item)
    return found


def in_turns(
    items: Mapping[str, Sequence[TaskItem]],
    order: Callable[[int, list[str]], list[str]],
    shots: int,
    *,
    task: str = "",
) -> Iterator[TaskItem]:
    """Items of all classes in rounds, one of each class a round.

    Args:
        items: By class, each in the order in which they are taken.
        order: The classes of a round in the order in which they come.
        shots: How many will be taken, to tell in an error.
        task: Name of the task, to tell too.

    Raises:
        EvaluationError: When a class has no more.
    """
    number, of_task = 0, f"task {task!r}: " if task else ""
    while items:
        for name in order(number, sorted(items)):
            if number >= len(items[name]):
                raise EvaluationError(
                    f"{of_task}{shots} shots of {len(items)} classes in turns take {number + 1} of class {name!r}, and "
                    f"{len(items[name])} may be shown; ask for fewer shots, or turn balanced off"
                )
            yield items[name][number]
        number += 1
