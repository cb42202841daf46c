"""Shots whose pictures are like the query's."""

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots.by_class import by_class, by_id, in_turns
from flamingo_blocks.evaluation.shots.keyed_order import keyed_order
from flamingo_blocks.evaluation.shots.nearest_items import Backend, nearest_items
from flamingo_blocks.evaluation.shots.same_picture import SamePicture
from flamingo_blocks.evaluation.shots.shot_source import check_shots, too_few

RicesOrder = Literal["nearest_last", "nearest_first", "random"]
_SPARE = 16  # neighbours looked up beyond the shots, in place of those that are passed over


class RicesShots:
    """Retrieval-based in-context example selection: the items whose features are most like the query's.

    The search is exact, and of items that are equally near the one with the lesser id comes first. Shots in text alone,
    at 0 shots, that were found by the query's picture tell what it shows: draw those by `RandomShots`, or say so beside
    the score.

    Args:
        support: What shots are found in. OpenFlamingo searches the whole training split.
        features: Of the support, one row an item, as `rices_features` gives them; of any length.
        query_features: Of the queries.
        queries: All that will be asked for.
        order: `"nearest_last"`, next to the query, as in the paper; `"nearest_first"`; or `"random"`: an order drawn
            for the query.
        balanced: Take the nearest of each class in turn, in a round the classes whose item is nearest first.
        classes: Tells the class of an item, for `balanced`.
        task: Name of the task, for `"random"`.
        seed: For `"random"`.
        backend: As in `nearest_items`.

    Attributes:
        excluded: How many items were passed over for showing the query's own picture, by the id of the query.

    Raises:
        ValueError: If `order` is none of these, `balanced` has no `classes`, or features are not one row an item.
        EvaluationError: If two items of the support, or two queries, have one id.

    Example:
        >>> support = [TaskItem(id=name, media=()) for name in ("far", "near", "nearer")]
        >>> features = torch.tensor([[0.0, 1.0], [1.0, 0.5], [1.0, 0.1]])
        >>> query = TaskItem(id="q", media=())
        >>> rices = RicesShots(support, features, torch.tensor([[2.0, 0.0]]), queries=[query])
        >>> [item.id for item in rices.draw(query, 2)]
        ['near', 'nearer']

    Source:
        Flamingo (arXiv 2204.14198), section A.2, after Yang et al. (arXiv 2109.05014).
    """

    def __init__(
        self,
        support: Sequence[TaskItem],
        features: Float[Tensor, "items dim"],
        query_features: Float[Tensor, "queries dim"],
        *,
        queries: Sequence[TaskItem],
        order: RicesOrder = "nearest_last",
        balanced: bool = False,
        classes: Callable[[TaskItem], str] | None = None,
        task: str = "",
        seed: int = 0,
        backend: Backend = "torch",
    ) -> None:
        if order not in get_args(RicesOrder):
            raise ValueError(f"order is {order!r}, wanted one of {', '.join(map(repr, get_args(RicesOrder)))}")
        if balanced and classes is None:
            raise ValueError("balanced is True and classes is None; pass what tells the class of an item")
        for name, rows, items in (("features", features, support), ("query_features", query_features, queries)):
            if len(rows) != len(items):
                raise ValueError(f"{name} has {len(rows)} rows for {len(items)} items, wanted one for each, in order")
        by_id(support)
        by_id(queries, "the queries")
        ranks = sorted(range(len(support)), key=lambda place: support[place].id)  # so that of ties the lesser id wins
        self._support = [support[place] for place in ranks]
        self._features, self._query_features = features[ranks], query_features
        self._rows = {query.id: row for row, query in enumerate(queries)}
        self.order, self.classes, self.task, self.seed, self.backend = order, classes, task, seed, backend
        self.balanced = balanced
        self.excluded: dict[str, int] = {}
        self._same = SamePicture()
        self._nearest = torch.zeros(len(queries), 0, dtype=torch.long)

    def draw(self, query: TaskItem, shots: int) -> tuple[TaskItem, ...]:
        """The items most like a query, as `ShotSource` has it.

        Args:
            query: One of the queries.
            shots: How many.

        Raises:
            ValueError: If `shots` is negative.
            EvaluationError: If the query is none of those, or fewer items may be shown.
        """
        check_shots(shots)
        if query.id not in self._rows:
            raise EvaluationError(f"query {query.id!r} has no features; it is none of the queries of this RicesShots")
        if shots == 0:
            return ()
        near = self._near(query, shots)
        kept = [item for item in near if not self._same(query, item)]
        if len(kept) < shots and len(near) < len(self._support):
            near = self._all_near(query)
            kept = [item for item in near if not self._same(query, item)]
        if len(kept) < shots:
            raise too_few(query, shots, task=self.task, left=len(kept), of=len(self._support))
        chosen = self._chosen(kept, shots)
        seen = near[: near.index(chosen[-1])]
        if passed := sum(self._same(query, item) for item in seen):
            self.excluded[query.id] = max(passed, self.excluded.get(query.id, 0))
        return self._ordered(query, chosen)

    def _chosen(self, near: list[TaskItem], shots: int) -> list[TaskItem]:
        """Some of the items that may be shown, the nearest first as they were."""
        if not self.balanced:
            return near[:shots]
        assert self.classes is not None  # it was asked for
        found = by_class(near, self.classes)
        ranks = {item.id: rank for rank, item in enumerate(near)}

        def nearest_first(number: int, names: list[str]) -> list[str]:
            return sorted(
                names, key=lambda name: ranks[found[name][number].id] if number < len(found[name]) else len(near)
            )

        taken = list(islice(in_turns(found, nearest_first, shots, task=self.task), shots))
        return sorted(taken, key=lambda item: ranks[item.id])

    def _ordered(self, query: TaskItem, chosen: list[TaskItem]) -> tuple[TaskItem, ...]:
        if self.order == "random":
            known = {item.id: item for item in chosen}
            ids = keyed_order(known, task=self.task, purpose=f"rices {query.id}", seed=self.seed)
            return tuple(known[id_] for id_ in ids)
        return tuple(chosen if self.order == "nearest_first" else reversed(chosen))

    def _near(self, query: TaskItem, shots: int) -> list[TaskItem]:
        """As many of the nearest items as should be enough; they are looked up for all queries at once."""
        if self.balanced:
            return self._all_near(query)
        width = min(shots + _SPARE, len(self._support))
        if self._nearest.shape[1] < width:
            self._nearest = nearest_items(self._features, self._query_features, k=width, backend=self.backend)
        return [self._support[place] for place in self._nearest[self._rows[query.id], :width].tolist()]

    def _all_near(self, query: TaskItem) -> list[TaskItem]:
        row = self._rows[query.id]
        if not self._support:
            return []
        (places,) = nearest_items(self._features, self._query_features[row : row + 1], k=len(self._support))
        return [self._support[place] for place in places.tolist()]
