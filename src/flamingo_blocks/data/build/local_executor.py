"""The shards of a build on this machine, by processes that may be killed."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.crew import Limits
from flamingo_blocks.data.build.run_here import run_here
from flamingo_blocks.data.build.shard_result import ShardFailure, ShardResult
from flamingo_blocks.data.build.start_crew import StartMethod, packed, run_crew
from flamingo_blocks.data.build.step import Shard, Step


class LocalExecutor:
    """Run shards on this machine, each in a worker process that may be killed without harm.

    A worker that dies, is silent for too long or grows too large loses the shard that it has, which another does
    anew. The record at which that happens twice goes into quarantine; a worker that is killed from outside loses no
    record. Nothing has to be set up, and when the program is killed its workers die with it.

    Args:
        workers: Processes at a time; as many as this process may use cores by default. With 0 all is done in this
            process, as a debugger likes it, and no limit is watched.
        timeout_s: Longest time for one record. A page takes milliseconds, so half a minute means that it hangs.
        io_timeout_s: Longest time without a word while a shard is read or written.
        memory_limit_mb: Most resident memory of a worker in MiB, looked at some twenty times a second; needs Linux.
        retries: How often a shard is tried again after it could not be read or written.
        max_quarantined: Records of one shard that may be in quarantine. With more, something else is broken, and the
            shard fails.
        start_method: How processes are started: `"forkserver"` imports the libraries once for all workers, `"spawn"`
            once for each, and `"fork"` copies this process, which must have no threads then. By default the first
            that the system has.

    Raises:
        ValueError: If a number is out of its range, or memory cannot be watched here.

    Example:
        >>> LocalExecutor(workers=2, timeout_s=10.0).workers
        2
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        timeout_s: float = 30.0,
        io_timeout_s: float = 600.0,
        memory_limit_mb: int | None = None,
        retries: int = 2,
        max_quarantined: int = 100,
        start_method: StartMethod | None = None,
    ) -> None:
        self.workers = _usable_cores() if workers is None else workers
        for name, value in {"timeout_s": timeout_s, "io_timeout_s": io_timeout_s}.items():
            if value <= 0:
                raise ValueError(f"{name} is {value}, wanted more than 0")
        for name, value in {"workers": self.workers, "retries": retries, "max_quarantined": max_quarantined}.items():
            if value < 0:
                raise ValueError(f"{name} is {value}, wanted 0 or more")
        if memory_limit_mb is not None and not Path("/proc/self/statm").exists():
            raise ValueError(f"memory_limit_mb is {memory_limit_mb}, but this system has no /proc to watch; leave it")
        self.limits = Limits(timeout_s, io_timeout_s, memory_limit_mb, retries, max_quarantined)
        self.start_method = start_method

    def run(
        self, step: Step, shards: Sequence[Shard], folder: BuildFolder, *, on_records: Callable[[int], None]
    ) -> Iterator[ShardResult | ShardFailure]:
        """Do the shards, and tell of each when it is done or given up.

        Raises:
            ValueError: If the step cannot be pickled.
            RuntimeError: If no worker starts, or none can load the step.
        """
        if self.workers == 0:
            yield from run_here(step, shards, folder, self.limits, on_records)
            return
        yield from run_crew(
            packed(step, folder, self.limits), shards, folder, self.limits,
            size=self.workers, start_method=self.start_method, preload=[type(step).__module__], on_records=on_records,
        )  # fmt: skip


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
