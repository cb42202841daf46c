"""A model on several processes: what is sharded, what is reduced, and in which precision."""

from flamingo_blocks.training.ranks.gradients import averaged_over, clip_gradients, gradient_sync, sum_over_ranks
from flamingo_blocks.training.ranks.precision import prepare_precision
from flamingo_blocks.training.ranks.shard import shard

__all__ = [
    "averaged_over",
    "clip_gradients",
    "gradient_sync",
    "prepare_precision",
    "shard",
    "sum_over_ranks",
]
