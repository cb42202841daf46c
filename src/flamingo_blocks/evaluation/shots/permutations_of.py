"""Several orders of the same shots."""

from collections.abc import Iterable
from itertools import permutations
from math import factorial

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.by_class import by_id
from flamingo_blocks.evaluation.shots.keyed_order import keyed_digest


def permutations_of(shots: Iterable[TaskItem], *, count: int = 6, key: str) -> list[tuple[TaskItem, ...]]:
    """Different orders of some shots, over which log-probabilities are averaged.

    Args:
        shots: In any order, which changes nothing.
        count: How many orders; 6 in the paper. All orders where there are no more.
        key: Decides which are drawn: name the task, the seed and the query in it.

    Raises:
        ValueError: If `count` is less than 1.
        EvaluationError: If two shots have one id.

    Example:
        >>> shots = [TaskItem(id=name, media=()) for name in "ba"]
        >>> [[item.id for item in order] for order in permutations_of(shots, key="hateful_memes 0 42953")]
        [['a', 'b'], ['b', 'a']]

    Source:
        Flamingo (arXiv 2204.14198), section A.2.
    """
    if count < 1:
        raise ValueError(f"count is {count}, wanted 1 or more")
    known = by_id(shots, "the shots")
    base = [known[id_] for id_ in sorted(known)]
    total = factorial(len(base))
    if total <= count:
        return list(permutations(base))
    numbers: dict[int, None] = {}
    draw = 0
    while len(numbers) < count:
        numbers[int.from_bytes(keyed_digest("permutations", key, draw)) % total] = None
        draw += 1
    return [_permutation(base, number) for number in numbers]


def _permutation(base: list[TaskItem], number: int) -> tuple[TaskItem, ...]:
    """The order of a number, where all orders are numbered from 0 as a dictionary would have them."""
    left, found = list(base), []
    while left:
        place, number = divmod(number, factorial(len(left) - 1))
        found.append(left.pop(place))
    return tuple(found)
