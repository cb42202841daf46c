"""The shards of a build one after the other, in this process."""

import secrets
from array import array
from collections.abc import Callable, Iterator, Sequence

from flamingo_blocks.data.build.attempt import Attempt
from flamingo_blocks.data.build.beat import Beat
from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.crew import Limits
from flamingo_blocks.data.build.shard_result import ShardFailure, ShardResult
from flamingo_blocks.data.build.step import Shard, Step
from flamingo_blocks.data.build.worker import answer_of


def run_here(
    step: Step, shards: Sequence[Shard], folder: BuildFolder, limits: Limits, on_records: Callable[[int], None]
) -> Iterator[ShardResult | ShardFailure]:
    """Do the shards without workers: nothing is killed, and what kills this process ends the build."""
    records = 0
    for shard in shards:
        for left in reversed(range(limits.retries + 1)):
            beat = Beat(array("q", [0]))
            attempt = Attempt(
                step,
                shard,
                folder,
                name=secrets.token_hex(8),
                skip={},
                max_quarantined=limits.max_quarantined,
                beat=beat,
            )
            answer = answer_of(attempt)
            if isinstance(answer, ShardResult):
                records += answer.rows_in
                on_records(records)
                yield answer
                break
            if not answer.may_retry or not left:
                yield ShardFailure(shard.name, answer.detail)
                break
