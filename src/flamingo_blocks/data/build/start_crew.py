"""How a crew is told what to do, and how its processes are started."""

import multiprocessing
import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.crew import Crew, Limits
from flamingo_blocks.data.build.shard_result import ShardFailure, ShardResult
from flamingo_blocks.data.build.step import Shard, Step
from flamingo_blocks.data.build.worker import work

StartMethod = Literal["forkserver", "spawn", "fork"]


def packed(step: Step, folder: BuildFolder, limits: Limits) -> bytes:
    """What each worker is told at its start.

    Raises:
        ValueError: If the step cannot be pickled.
    """
    try:
        return pickle.dumps((step, folder, limits.max_quarantined))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(f"step is {step!r}, which cannot be pickled, so no worker can have it: {error}") from error


def run_crew(
    payload: bytes,
    shards: Sequence[Shard],
    folder: BuildFolder,
    limits: Limits,
    *,
    size: int,
    start_method: StartMethod | None,
    preload: Sequence[str] = (),
    on_records: Callable[[int], None] = lambda _: None,
) -> Iterator[ShardResult | ShardFailure]:
    """Do shards by workers that are told `payload`."""
    methods = multiprocessing.get_all_start_methods()
    method = start_method or ("forkserver" if "forkserver" in methods else "spawn")
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        # The server imports these once for all workers; where one runs already, each worker imports them.
        context.set_forkserver_preload([work.__module__, *preload])
    yield from Crew(context, payload, folder, limits, size).run(shards, on_records)
