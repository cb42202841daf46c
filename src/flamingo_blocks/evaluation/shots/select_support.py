"""Which items of a training split shots are drawn from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.by_class import by_class, by_id
from flamingo_blocks.evaluation.shots.keyed_order import keyed_order

_PURPOSE = "support"
SUPPORT_SIZE = 2048  # of the paper


def select_support(
    items: Iterable[TaskItem],
    *,
    task: str,
    size: int = SUPPORT_SIZE,
    classes: Callable[[TaskItem], str] | None = None,
    usable: Callable[[TaskItem], bool] | None = None,
) -> tuple[TaskItem, ...]:
    """The items of the smallest hashes, in their order; all items where there are no more than `size`.

    Args:
        items: Of the training split.
        task: Name of the task.
        size: How many; 2048 in the paper. With `classes`, how many of each class: 32 in the paper.
        classes: Tells the class of an item.
        usable: Whether an item can be shown; asked in order, until there are enough. What cannot, as where a file is
            missing, is replaced by the next hash.

    Raises:
        ValueError: If `size` is less than 1.
        EvaluationError: If two items have one id.

    Example:
        >>> items = [TaskItem(id=str(number), media=()) for number in range(100)]
        >>> [item.id for item in select_support(items, task="vqav2", size=3)]
        ['70', '98', '58']
    """
    if size < 1:
        raise ValueError(f"size is {size}, wanted 1 or more")
    chosen = []
    for group in _ranked(items, task, classes):
        left = size
        for item in group:
            if left and (usable is None or usable(item)):
                chosen.append(item)
                left -= 1
    return tuple(chosen)


@dataclass(frozen=True, kw_only=True, eq=False)
class PaperSubsets:
    """What the paper takes of a training split, beside the test queries of the official split.

    Args:
        test_support: Shots of the test; those of `select_support`.
        val_support: Shots while prompts and settings are chosen.
        val_query: Queries while prompts and settings are chosen.

    Example:
        >>> items = [TaskItem(id=str(number), media=()) for number in range(100)]
        >>> subsets = paper_subsets(items, task="vqav2", val_query=20, support=3)
        >>> len(subsets.test_support), len(subsets.val_support), len(subsets.val_query)
        (3, 3, 20)
        >>> {item.id for item in subsets.val_support} & {item.id for item in subsets.val_query}
        set()
    """

    test_support: tuple[TaskItem, ...]
    val_support: tuple[TaskItem, ...]
    val_query: tuple[TaskItem, ...]


def paper_subsets(
    items: Iterable[TaskItem],
    *,
    task: str,
    val_query: int = 1024,
    support: int = SUPPORT_SIZE,
    classes: Callable[[TaskItem], str] | None = None,
) -> PaperSubsets:
    """Divide a training split into the disjoint subsets of the paper, by the ranks of hashes.

    Args:
        items: Of the training split.
        task: Name of the task.
        val_query: How many queries for choices: 1024 in the paper, 5000 of COCO. With `classes`, of each class: 10.
        support: Size of either support; with `classes`, of each class: 32.
        classes: Tells the class of an item.

    Raises:
        ValueError: If a size is less than 1.
        EvaluationError: If two items have one id, or there are too few.

    Example:
        >>> items = [TaskItem(id=str(number), media=()) for number in range(100)]
        >>> subsets = paper_subsets(items, task="vqav2", val_query=20, support=3)
        >>> [item.id for item in subsets.test_support], len(subsets.val_query)
        (['70', '98', '58'], 20)

    Source:
        Flamingo (arXiv 2204.14198), section B.1.4. Which items these were is not published.
    """
    for name, size in (("val_query", val_query), ("support", support)):
        if size < 1:
            raise ValueError(f"{name} is {size}, wanted 1 or more")
    ends = (support, 2 * support, 2 * support + val_query)
    parts: tuple[list[TaskItem], list[TaskItem], list[TaskItem]] = ([], [], [])
    for group in _ranked(items, task, classes):
        if len(group) < ends[-1]:
            of = "" if classes is None else f" of class {classes(group[0])!r}"
            raise EvaluationError(
                f"task {task!r} has {len(group)} items{of} for training, and its subsets take {ends[-1]}; "
                "lower val_query or support"
            )
        for place, (first, end) in enumerate(pairwise((0, *ends))):
            parts[place].extend(group[first:end])
    return PaperSubsets(test_support=tuple(parts[0]), val_support=tuple(parts[1]), val_query=tuple(parts[2]))


def _ranked(
    items: Iterable[TaskItem], task: str, classes: Callable[[TaskItem], str] | None
) -> Sequence[Sequence[TaskItem]]:
    """Items in the order of their hashes, class by class."""
    items_by_id = by_id(items)
    ranked = [items_by_id[id_] for id_ in keyed_order(items_by_id, task=task, purpose=_PURPOSE, seed=0)]
    if classes is None:
        return [ranked] if ranked else []
    found = by_class(ranked, classes)
    return [found[name] for name in sorted(found)]
