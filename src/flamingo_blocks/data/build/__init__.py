"""A step over many shards: exactly once each, whatever crashes, hangs or is killed on the way."""

from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.executor import Executor
from flamingo_blocks.data.build.local_executor import LocalExecutor
from flamingo_blocks.data.build.ray_executor import RayExecutor
from flamingo_blocks.data.build.report import BuildProgress, BuildReport
from flamingo_blocks.data.build.run_shards import read_quarantine, run_shards
from flamingo_blocks.data.build.shard_result import Quarantined, ShardFailure, ShardResult
from flamingo_blocks.data.build.step import Kept, Shard, Step

__all__ = [
    "BuildFolder",
    "BuildProgress",
    "BuildReport",
    "Executor",
    "Kept",
    "LocalExecutor",
    "Quarantined",
    "RayExecutor",
    "Shard",
    "ShardFailure",
    "ShardResult",
    "Step",
    "read_quarantine",
    "run_shards",
]
