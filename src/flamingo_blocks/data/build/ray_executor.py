"""The shards of a build on the machines of a Ray cluster."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.crew import Limits
from flamingo_blocks.data.build.local_executor import LocalExecutor
from flamingo_blocks.data.build.shard_result import ShardFailure, ShardResult
from flamingo_blocks.data.build.start_crew import StartMethod, packed, run_crew
from flamingo_blocks.data.build.step import Shard, Step


class RayExecutor:
    """Run shards on a Ray cluster, one task each, by the same workers as on one machine.

    Each task watches a worker of its own, as `LocalExecutor` does, so a record that crashes or hangs costs itself
    alone. Ray tries a task again when its process or its machine is lost. The cluster is that of `ray.init`; all its
    machines see the folders of input and output under the same names, and can import the step.

    Args:
        local: Limits of a worker and retries of a shard; its number of workers is not asked.
        num_cpus: Cores that Ray keeps for a task.
        max_retries: How often Ray tries a task again after its process was lost; what a shard itself does is retried
            by `local`.
        max_in_flight: Tasks that Ray holds at a time; twice the cores of the cluster by default.

    Raises:
        MissingDependencyError: If `ray` is missing.
        ValueError: If a number is out of its range.

    Example:
        ```python
        import ray

        ray.init(address="auto")  # the cluster that runs
        run_shards(step, shards, "/shared/out", executor=RayExecutor(LocalExecutor(1, timeout_s=60.0)))
        ```
    """

    def __init__(
        self,
        local: LocalExecutor | None = None,
        *,
        num_cpus: float = 1.0,
        max_retries: int = 2,
        max_in_flight: int | None = None,
    ) -> None:
        self.ray: Any = require("ray", used_by="RayExecutor", extra="ray")
        if num_cpus <= 0:
            raise ValueError(f"num_cpus is {num_cpus}, wanted more than 0")
        if max_retries < 0:
            raise ValueError(f"max_retries is {max_retries}, wanted 0 or more; without a bound a build may never end")
        if max_in_flight is not None and max_in_flight < 1:
            raise ValueError(f"max_in_flight is {max_in_flight}, wanted 1 or more")
        self.local = LocalExecutor(1) if local is None else local
        self.num_cpus, self.max_retries, self.max_in_flight = num_cpus, max_retries, max_in_flight

    def run(
        self, step: Step, shards: Sequence[Shard], folder: BuildFolder, *, on_records: Callable[[int], None]
    ) -> Iterator[ShardResult | ShardFailure]:
        """Do the shards, and tell of each when it is done or given up; records are told by whole shards."""
        ray = self.ray
        task = ray.remote(run_one).options(num_cpus=self.num_cpus, max_retries=self.max_retries, retry_exceptions=False)
        if not ray.is_initialized():
            ray.init()
        most = self.max_in_flight or max(2, 2 * int(ray.cluster_resources().get("CPU", 1) / self.num_cpus))
        # One copy of the step for all tasks, already pickled: a worker finds its class by name, as on one machine.
        payload = ray.put(packed(step, folder, self.local.limits))
        waiting, records = list(reversed(shards)), 0
        flying: dict[Any, Shard] = {}
        try:
            while waiting or flying:
                while waiting and len(flying) < most:
                    shard = waiting.pop()
                    flying[task.remote(payload, shard, folder, self.local.limits, self.local.start_method)] = shard
                for reference in ray.wait(list(flying), num_returns=1, timeout=1.0)[0]:
                    outcome = self._outcome(reference, flying.pop(reference))
                    records += outcome.rows_in if isinstance(outcome, ShardResult) else 0
                    on_records(records)
                    yield outcome
                on_records(records)
        finally:
            for reference in flying:
                ray.cancel(reference, force=True)

    def _outcome(self, reference: Any, shard: Shard) -> ShardResult | ShardFailure:
        try:
            outcome: ShardResult | ShardFailure = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:  # a machine lost too often, or a step that no worker can load
            return ShardFailure(shard.name, f"{type(error).__name__}: {error}")
        return outcome


def run_one(
    payload: bytes, shard: Shard, folder: BuildFolder, limits: Limits, start_method: StartMethod | None
) -> ShardResult | ShardFailure:
    """What a task does: one shard by one worker, which is watched."""
    (outcome,) = run_crew(payload, [shard], folder, limits, size=1, start_method=start_method)
    return outcome
