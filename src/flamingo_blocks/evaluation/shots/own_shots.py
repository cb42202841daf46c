"""Shots of queries that bring their own."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, get_args

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.by_class import by_class, by_id, in_turns
from flamingo_blocks.evaluation.shots.keyed_order import keyed_order
from flamingo_blocks.evaluation.shots.same_picture import SamePicture
from flamingo_blocks.evaluation.shots.shot_source import check_shots, too_few

OwnOrder = Literal["given", "permuted", "balanced"]


class OwnShots:
    """The items of `TaskItem.support`, for tasks that are made of episodes.

    Args:
        task: Name of the task.
        seed: Each seed draws other shots, where something is drawn.
        order: `"given"`: the first items as they stand. `"permuted"`: in an order drawn for the query. `"balanced"`:
            one of each class in turn, items and the classes of a round in orders drawn for the query.
        classes: Tells the class of an item, for `"balanced"`; of a query too, with `num_classes`.
        num_classes: Draw so many classes for `"balanced"`, the query's own among them; None for all.

    Attributes:
        excluded: How many items were passed over for showing the query's own picture, by the id of the query.

    Raises:
        ValueError: If `order` is none of these, `"balanced"` has no `classes`, or `num_classes` is less than 1.

    Example:
        >>> support = tuple(TaskItem(id=name, media=(), answers=(name[:3],)) for name in ("dax1", "dax2", "blk1"))
        >>> query = TaskItem(id="q", media=(), support=support)
        >>> [item.id for item in OwnShots(task="binding", seed=0).draw(query, 2)]
        ['dax1', 'dax2']
        >>> drawn = OwnShots(task="binding", seed=0, order="balanced", classes=lambda item: item.answers[0])
        >>> sorted(item.answers[0] for item in drawn.draw(query, 2))
        ['blk', 'dax']
    """

    def __init__(
        self,
        *,
        task: str,
        seed: int,
        order: OwnOrder = "given",
        classes: Callable[[TaskItem], str] | None = None,
        num_classes: int | None = None,
    ) -> None:
        if order not in get_args(OwnOrder):
            raise ValueError(f"order is {order!r}, wanted one of {', '.join(map(repr, get_args(OwnOrder)))}")
        if order == "balanced" and classes is None:
            raise ValueError("order is 'balanced' and classes is None; pass what tells the class of an item")
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}, wanted 1 or more, or None for all")
        self.task, self.seed, self.order, self.classes, self.num_classes = task, seed, order, classes, num_classes
        self.excluded: dict[str, int] = {}
        self._same = SamePicture()

    def draw(self, query: TaskItem, shots: int) -> tuple[TaskItem, ...]:
        """Items of the query's own support, as `ShotSource` has it.

        Args:
            query: What is asked.
            shots: How many.

        Raises:
            ValueError: If `shots` is negative.
            EvaluationError: If the query has no support, two of its items have one id, or fewer may be shown.
        """
        check_shots(shots)
        if shots == 0:
            return ()
        if query.support is None:
            raise EvaluationError(
                f"task {self.task!r}: query {query.id!r} has no support of its own; take RandomShots or "
                "RicesShots for it"
            )
        items = [item for item in query.support if not self._same(query, item)]
        if passed := len(query.support) - len(items):
            self.excluded[query.id] = passed
        drawn = tuple(islice(self._ordered(query, items, shots), shots))
        if len(drawn) < shots:
            raise too_few(query, shots, task=self.task, left=len(drawn), of=len(query.support))
        return drawn

    def _ordered(self, query: TaskItem, items: Sequence[TaskItem], shots: int) -> Iterator[TaskItem]:
        known = by_id(items, f"the support of query {query.id!r}")
        if self.order == "given":
            return iter(items)
        ordered = [known[id_] for id_ in self._keyed(known, f"own {query.id}")]
        if self.order == "permuted":
            return iter(ordered)
        assert self.classes is not None  # it was asked for
        found = by_class(ordered, self.classes)
        if self.num_classes is not None:
            own = self.classes(query)
            names = [own, *self._keyed([name for name in found if name != own], f"own names {query.id}")]
            found = {name: found.get(name, []) for name in names[: self.num_classes]}

        def order(number: int, names: list[str]) -> list[str]:
            return self._keyed(names, f"own classes {number} {query.id}")

        return in_turns(found, order, shots, task=self.task)

    def _keyed(self, ids: Iterable[str], purpose: str) -> list[str]:
        return keyed_order(ids, task=self.task, purpose=purpose, seed=self.seed)
