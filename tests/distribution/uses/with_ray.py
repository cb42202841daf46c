"""A build is done on a Ray of this machine."""

import tempfile
from pathlib import Path

import ray
from shout import Shout

from flamingo_blocks.data.build import LocalExecutor, RayExecutor, Shard, run_shards

with tempfile.TemporaryDirectory(prefix="ray-") as scratch:  # its sockets want a short path
    ray.init(
        num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=scratch,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parent)}},
    )  # fmt: skip
    run_shards(Shout(), [Shard("a", ["cat", "", "dog"])], "built", executor=RayExecutor(LocalExecutor(1)))
    ray.shutdown()
assert Path("built/a.txt").read_text() == "CAT\nDOG"
