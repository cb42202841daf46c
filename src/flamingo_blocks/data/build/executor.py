"""What runs the shards of a build."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, runtime_checkable

from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.shard_result import ShardFailure, ShardResult
from flamingo_blocks.data.build.step import Shard, Step


@runtime_checkable
class Executor(Protocol):
    """Runs a step over shards, in any order and anywhere; `LocalExecutor` and `RayExecutor` are such.

    Example:
        >>> from flamingo_blocks.data.build import LocalExecutor
        >>> isinstance(LocalExecutor(1), Executor)
        True
    """

    def run(
        self, step: Step, shards: Sequence[Shard], folder: BuildFolder, *, on_records: Callable[[int], None]
    ) -> Iterator[ShardResult | ShardFailure]:
        """Do the shards, and tell of each once, when it is done or given up.

        Args:
            step: What to do.
            shards: With what.
            folder: Where to; it is there.
            on_records: To be called now and then, with the number of records read so far.
        """
        ...
