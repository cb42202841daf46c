"""Shots that are drawn by hash, the same for all queries of a group."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.assign_groups import assign_groups
from flamingo_blocks.evaluation.shots.by_class import by_class, by_id, in_turns
from flamingo_blocks.evaluation.shots.keyed_order import keyed_order
from flamingo_blocks.evaluation.shots.same_picture import SamePicture
from flamingo_blocks.evaluation.shots.shot_source import check_shots, too_few

_ORDERS_KEPT = 8192  # of 2048 items each they take 128 MiB


class RandomShots:
    """The first items of one random order for each group of queries, so that 4 shots are the first of 8.

    An item that shows the query's own picture is passed over, and the next of the order takes its place; apart from
    that, all queries of a group are shown the same.

    Args:
        support: What shots are drawn from, in any order.
        task: Name of the task.
        seed: Each seed draws other shots.
        num_groups: How many groups queries are divided into; None draws for each query anew, as OpenFlamingo does.
        groups: The group of each query by its id, where `assign_groups` is not to decide.
        balanced: Take one item of each class in turn, the classes of a round in random order.
        classes: Tells the class of an item, for `balanced`.

    Attributes:
        excluded: How many items were passed over for showing the query's own picture, by the id of the query.

    Raises:
        ValueError: If `num_groups` is less than 1, or `balanced` has no `classes`.
        EvaluationError: If two items have one id.

    Example:
        >>> support = [TaskItem(id=str(number), media=()) for number in range(100)]
        >>> shots = RandomShots(support, task="vqav2", seed=0)
        >>> query = TaskItem(id="of another split", media=())
        >>> [item.id for item in shots.draw(query, 2)], [item.id for item in shots.draw(query, 4)]
        (['52', '2'], ['52', '2', '10', '32'])
    """

    def __init__(
        self,
        support: Iterable[TaskItem],
        *,
        task: str,
        seed: int,
        num_groups: int | None = 64,
        groups: Mapping[str, int] | None = None,
        balanced: bool = False,
        classes: Callable[[TaskItem], str] | None = None,
    ) -> None:
        assign_groups((), task=task, seed=seed, num_groups=num_groups)
        if balanced and classes is None:
            raise ValueError("balanced is True and classes is None; pass what tells the class of an item")
        self.task, self.seed, self.num_groups, self.groups = task, seed, num_groups, groups
        self.classes = classes if balanced else None
        self.excluded: dict[str, int] = {}
        self._support = by_id(support)
        self._same = SamePicture()
        self._orders: dict[int, list[TaskItem]] = {}

    def group(self, query: TaskItem) -> int:
        """The group of a query.

        Args:
            query: What is asked.

        Raises:
            ValueError: If `groups` was given and does not know the query.
        """
        if self.groups is None:
            found = assign_groups([query.id], task=self.task, seed=self.seed, num_groups=self.num_groups)
            return found[query.id]
        if query.id not in self.groups:
            raise ValueError(f"groups has no group of query {query.id!r}; give one for each, or leave groups out")
        return self.groups[query.id]

    def draw(self, query: TaskItem, shots: int) -> tuple[TaskItem, ...]:
        """The first items of the order of the query's group, as `ShotSource` has it.

        Args:
            query: What is asked.
            shots: How many.

        Raises:
            ValueError: If `shots` is negative.
            EvaluationError: If fewer may be shown, in all or of a class.
        """
        check_shots(shots)
        if shots == 0:
            return ()
        group = self.group(query)
        passed: list[TaskItem] = []
        drawn = tuple(islice(self._without(query, group, passed, shots), shots))
        if passed:
            self.excluded[query.id] = max(len(passed), self.excluded.get(query.id, 0))
        if len(drawn) < shots:
            raise too_few(query, shots, task=self.task, left=len(drawn), of=len(self._support))
        return drawn

    def _without(self, query: TaskItem, group: int, passed: list[TaskItem], shots: int) -> Iterator[TaskItem]:
        """The order of a group, without what shows the query's picture."""

        def kept(item: TaskItem) -> bool:
            if self._same(query, item):
                passed.append(item)
                return False
            return True

        items = filter(kept, self._order(group))
        if self.classes is None:
            return items

        def order(number: int, names: list[str]) -> list[str]:
            return keyed_order(names, task=self.task, purpose=f"classes {group} {number}", seed=self.seed)

        return in_turns(by_class(items, self.classes), order, shots, task=self.task)

    def _order(self, group: int) -> list[TaskItem]:
        if group not in self._orders:
            if len(self._orders) >= _ORDERS_KEPT:
                self._orders.clear()
            ids = keyed_order(self._support, task=self.task, purpose=f"shots {group}", seed=self.seed)
            self._orders[group] = [self._support[id_] for id_ in ids]
        return self._orders[group]
