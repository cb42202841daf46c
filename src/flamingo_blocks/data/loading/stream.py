"""The batches of one source, without end."""

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.loading.batch_recipe import Source
from flamingo_blocks.data.loading.feeds import Feeds


class DataStream(Iterator[FlamingoBatch]):
    """The batches of one source, epoch after epoch, shuffled, from any position on.

    Use it for a run on one data set, and `Mixture` for several. Batch b takes positions `b * batch_size` up to
    `(b + 1) * batch_size` of the source's [order][flamingo_blocks.data.loading.SampleOrder], of which each rank makes
    its part. So batches depend on the seed and the data, and not on ranks or workers.

    A sample that cannot be used, because its record is broken or `make` dropped it, is counted, and the next one of a
    walk through the same epoch stands in for it. Every sample that can be used is seen in its own place once an epoch,
    whatever stands in for others.

    Args:
        source: What to draw from.
        seed: Decides the order, and what `make` draws.
        rank: Which part of every batch is this process's; see `data_parallel_rank`.
        world_size: Number of parts; divides the batch size.
        num_workers: Processes that make batches ahead; with 0 they are made when they are asked for. A script that has
            workers guards what it runs by `if __name__ == "__main__"`.
        prefetch: Batches made ahead for each worker.
        start_method: `"forkserver"` or `"spawn"`. None takes the first on Linux, where workers start quicker by it.

    Raises:
        ValueError: If an argument is out of its range, or the world size does not divide the batch size.

    Example:
        >>> from functools import partial
        >>> from flamingo_blocks.data import FlamingoExample, collate
        >>> from flamingo_blocks.data.loading import DataSource
        >>> source = DataSource(
        ...     name="numbers",
        ...     documents=range(100),
        ...     make=lambda document, key: FlamingoExample([document]),
        ...     collate=partial(collate, pad_id=0),
        ...     batch_size=4,
        ... )
        >>> stream = DataStream(source, seed=0)
        >>> next(stream).input_ids.flatten()
        tensor([86, 36, 76, 47])
        >>> state = stream.state_dict()
        >>> again = DataStream(source, seed=0)
        >>> again.load_state_dict(state)
        >>> bool((next(again).input_ids == next(stream).input_ids).all())
        True
    """

    def __init__(
        self,
        source: Source,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        prefetch: int = 2,
        start_method: str | None = None,
    ) -> None:
        self._name = source.name
        self._feeds = Feeds(
            [source], seed=seed, rank=rank, world_size=world_size, num_workers=num_workers, prefetch=prefetch,
            start_method=start_method,
        )  # fmt: skip

    def __next__(self) -> FlamingoBatch:
        return self._feeds.next([self._name])[self._name]

    @property
    def dropped(self) -> dict[str, int]:
        """How many samples this process could not use, by reason, among the batches that it handed out."""
        return dict(self._feeds.dropped[self._name])

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs to go on with the very next batch: small, and of JSON's types.

        It counts what was handed out, not what workers made ahead, and is the same on all ranks.
        """
        return self._feeds.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken, at once, on any number of ranks and workers.

        Args:
            state: What `state_dict` gave.

        Raises:
            ValueError: If the state was taken with another seed, order or data; all that differs is named.
        """
        self._feeds.load(state)

    def close(self) -> None:
        """End the workers. The stream may still be used: the next batch starts new ones."""
        self._feeds.close()

    def __enter__(self) -> "DataStream":  # noqa: PYI034 - the shape checks do not take `Self` in a method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
