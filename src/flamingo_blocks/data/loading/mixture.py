"""The batches of several sources, one of each a step."""

from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from flamingo_blocks.data.batch import FlamingoBatch
from flamingo_blocks.data.loading.batch_recipe import Source
from flamingo_blocks.data.loading.feeds import Batches, Feeds


class Mixture(Iterator[dict[str, FlamingoBatch]]):
    """A batch of every source a step, each source with its own batch size and its own endless order.

    Use it to train on several data sets at once, as the paper does: the gradients of all batches of a step, weighted,
    make one update. One pool of workers serves all sources, so a source of heavy samples gets more of it.

    Args:
        sources: The data sets, each with a name of its own. One of weight 0 is never read.
        seed: Decides all orders, and what `make` draws.
        rank: Which part of every batch is this process's; see `data_parallel_rank`.
        world_size: Number of parts; divides every batch size.
        num_workers: As in `DataStream`, for all sources together.
        prefetch: Batches made ahead for each worker, and one of every source at least.
        start_method: As in `DataStream`.

    Raises:
        TypeError: If `sources` is no list.
        ValueError: If an argument is out of its range, two sources share a name, or none has a weight above 0.

    Example:
        >>> from functools import partial
        >>> from flamingo_blocks.data import FlamingoExample, collate
        >>> from flamingo_blocks.data.loading import DataSource
        >>> def source(name, size, batch_size):
        ...     return DataSource(
        ...         name=name,
        ...         documents=range(size),
        ...         make=lambda document, key: FlamingoExample([document]),
        ...         collate=partial(collate, pad_id=0),
        ...         batch_size=batch_size,
        ...     )
        >>> mixture = Mixture([source("pages", 10, 2), source("pairs", 1000, 4)], seed=0)
        >>> {name: len(batch.input_ids) for name, batch in next(mixture).items()}
        {'pages': 2, 'pairs': 4}
        >>> {name: kept["batches"] for name, kept in mixture.state_dict()["sources"].items()}
        {'pages': 1, 'pairs': 1}

    Source:
        Flamingo (arXiv 2204.14198), section 2.4 and appendix B.3.1: gradients accumulated over all data sets do better
        than an update for each in turn.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        prefetch: int = 2,
        start_method: str | None = None,
    ) -> None:
        if not isinstance(sources, Sequence):
            raise TypeError(
                f"sources is a {type(sources).__name__}, wanted a list of sources; DataStream gives the batches of one"
            )
        names = [source.name for source in sources]
        if len(set(names)) < len(names):
            raise ValueError(f"sources have the names {names}: each needs a name of its own")
        self.weights = {source.name: source.weight for source in sources}
        """Factor on the loss of each source."""
        if not any(self.weights.values()):
            raise ValueError(f"sources have the weights {self.weights}: wanted one above 0")
        self._feeds = Feeds(
            sources, seed=seed, rank=rank, world_size=world_size, num_workers=num_workers, prefetch=prefetch,
            start_method=start_method,
        )  # fmt: skip

    def __next__(self) -> dict[str, FlamingoBatch]:
        return self._feeds.next(name for name, weight in self.weights.items() if weight > 0)

    def batches(self, name: str) -> Iterator[FlamingoBatch]:
        """The batches of one source, for a trainer that draws from each by itself.

        They are the batches that steps of the mixture would give. Each source is counted by itself, so a state taken
        between two draws of a step is as good as any.

        Args:
            name: Which source.

        Raises:
            ValueError: If there is no such source.
        """
        if name not in self.weights:
            raise ValueError(f"name is {name!r}, wanted one of {sorted(self.weights)}")
        return Batches(self._feeds, name)

    @property
    def dropped(self) -> dict[str, dict[str, int]]:
        """How many samples this process could not use, by source and reason, among the batches that it handed out."""
        return {name: dict(counts) for name, counts in self._feeds.dropped.items()}

    def state_dict(self) -> dict[str, Any]:
        """As in `DataStream`: one number for each source, and what it counts."""
        return self._feeds.state()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As in `DataStream`.

        Args:
            state: What `state_dict` gave.

        Raises:
            ValueError: If the state was taken with another seed, order or data; all that differs is named.
        """
        self._feeds.load(state)

    def close(self) -> None:
        """End the workers. The mixture may still be used: the next batch starts new ones."""
        self._feeds.close()

    def __enter__(self) -> "Mixture":  # noqa: PYI034 - the shape checks do not take `Self` in a method
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
