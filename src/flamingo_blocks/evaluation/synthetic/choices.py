"""Choices by hashing: each is a function of task, seed and id, and of nothing that was chosen before."""

from collections.abc import Sequence
from typing import TypeVar

from flamingo_blocks.data.examples.keyed_draws import KeyedDraws

T = TypeVar("T")


class Choices:
    """What is chosen for one item or picture of a task.

    Args:
        task: What the task is called.
        seed: Seed of the task.
        id: The item or picture.

    Example:
        >>> choices = Choices("binding", 0, "query 7")
        >>> choices.one("abc", "letter") == Choices("binding", 0, "query 7").one("abc", "letter")
        True
        >>> sorted(choices.several("abc", 3, "order"))
        ['a', 'b', 'c']
    """

    def __init__(self, task: str, seed: int, id: str) -> None:  # noqa: A002 - as a row is called elsewhere
        self._draws = KeyedDraws((task, seed, id))

    def one(self, options: Sequence[T], *purpose: str | int) -> T:
        """One of them, each as likely as the others.

        Args:
            options: What may be chosen, one at least.
            purpose: What it is for; another purpose is another choice.
        """
        return options[int(self._draws.uniform(*purpose) * len(options))]

    def several(self, options: Sequence[T], count: int, *purpose: str | int) -> list[T]:
        """Different ones, in an order that is chosen too; fewer are the first of more.

        Args:
            options: What may be chosen, `count` at least.
            count: How many.
            purpose: What they are for.
        """
        ranks = [self._draws.uniform(*purpose, place) for place in range(len(options))]
        return [options[place] for place in sorted(range(len(options)), key=ranks.__getitem__)[:count]]

    def between(self, low: float, high: float, *purpose: str | int) -> float:
        """A number from `low` to `high`.

        Args:
            low: The least.
            high: The largest, itself excluded.
            purpose: What it is for.
        """
        return low + (high - low) * self._draws.uniform(*purpose)
