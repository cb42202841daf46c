"""What streams and mixtures share: a counter for each source, the batches made ahead, and the state."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.loading.batch_recipe import BatchRecipe, MadeBatch, Source
from flamingo_blocks.data.loading.state import check_state, make_state
from flamingo_blocks.data.loading.workers import WorkerPool


@dataclass(frozen=True)
class BatchTask:
    """One batch to be made."""

    source: str
    batch: int

    def __str__(self) -> str:
        return f"batch {self.batch} of source {self.source!r}"


class Recipes:
    """Makes any batch of several sources; what a worker is given."""

    def __init__(self, recipes: Mapping[str, BatchRecipe]) -> None:
        self._recipes = dict(recipes)

    def __call__(self, task: BatchTask) -> MadeBatch:
        """Make the batch of a task."""
        return self._recipes[task.source](task.batch)


class Feeds:
    """Batches of several sources by name, each from where it stands, made ahead by one pool of workers.

    Args:
        sources: What to draw from.
        seed: Decides all orders and draws.
        rank: Which part of every batch is this process's.
        world_size: Number of parts.
        num_workers: Processes that make batches ahead; with 0 they are made when they are asked for.
        prefetch: Batches made ahead for each worker.
        start_method: As in `multiprocessing.get_context`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seed: int,
        rank: int,
        world_size: int,
        num_workers: int,
        prefetch: int,
        start_method: str | None,
    ) -> None:
        if num_workers < 0 or prefetch < 1:
            raise ValueError(
                f"num_workers is {num_workers}, wanted 0 or more; prefetch is {prefetch}, wanted 1 or more"
            )
        self.sources = {source.name: source for source in sources}
        self.dropped: dict[str, Counter[str]] = {name: Counter() for name in self.sources}
        self._seed = seed = index(seed)  # numpy's numbers are no JSON
        self._work = Recipes(
            {
                name: BatchRecipe(source, seed=seed, rank=rank, world_size=world_size)
                for name, source in self.sources.items()
            }
        )
        self._batches = dict.fromkeys(self.sources, 0)
        self._ahead: dict[str, deque[BatchTask]] = {name: deque() for name in self.sources}
        self._num_workers, self._start_method = num_workers, start_method
        active = [source for source in sources if source.weight > 0]
        self._depth = max(1, -(-prefetch * num_workers // max(1, len(active))))
        self._pool: WorkerPool | None = None

    def next(self, names: Iterable[str]) -> dict[str, FlamingoBatch]:
        """The next batch of each source. They count as handed out once all are there: a step is given whole or not."""
        make = self._alone if self._num_workers == 0 else self._from_workers
        try:
            made = {name: make(name, self._batches[name]) for name in names}
        except BaseException:  # an interrupt among them: what was taken of other sources is made again
            self.close()
            raise
        for name, one in made.items():
            self.dropped[name] += one.dropped
            self._batches[name] += 1
        return {name: one.batch for name, one in made.items()}

    def state(self) -> dict[str, Any]:
        """Where all sources stand, and what they are."""
        return make_state(self.sources.values(), seed=self._seed, batches=self._batches)

    def load(self, state: Mapping[str, Any]) -> None:
        """Stand where a state says."""
        batches = check_state(state, self.sources.values(), seed=self._seed)
        self.close()
        self._batches = batches

    def close(self) -> None:
        """End the workers and forget what they made ahead; the next call of `next` starts them anew."""
        for ahead in self._ahead.values():
            ahead.clear()
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _alone(self, name: str, number: int) -> MadeBatch:
        return self._work(BatchTask(name, number))

    def _from_workers(self, name: str, number: int) -> MadeBatch:
        try:
            if self._pool is None:
                self._pool = WorkerPool(self._work, num_workers=self._num_workers, start_method=self._start_method)
            self._fill(name, number)
            made: MadeBatch = self._pool.result(self._ahead[name][0])
            self._ahead[name].popleft()
            self._fill(name, number + 1)  # the workers go on while this batch is used
        except BaseException:
            self.close()
            raise
        return made

    def _fill(self, name: str, number: int) -> None:
        assert self._pool is not None
        ahead = self._ahead[name]
        for batch in range(number + len(ahead), number + self._depth):
            task = BatchTask(name, batch)
            self._pool.submit(task)
            ahead.append(task)


class Batches(Iterator[FlamingoBatch]):
    """The batches of one source of a mixture, without end."""

    def __init__(self, feeds: Feeds, name: str) -> None:
        self._feeds, self._name = feeds, name

    def __next__(self) -> FlamingoBatch:
        return self._feeds.next([self._name])[self._name]
