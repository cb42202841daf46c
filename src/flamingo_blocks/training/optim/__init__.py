"""Which parameter gets which rate and decay, the optimiser over them, and the schedule."""

from flamingo_blocks.training.optim.groups import describe_groups, param_groups
from flamingo_blocks.training.optim.optimisers import adamw, make_optimizer, restore_hyperparameters
from flamingo_blocks.training.optim.schedule import Schedule, cosine, exponential, warmup_hold_decay

__all__ = [
    "Schedule",
    "adamw",
    "cosine",
    "describe_groups",
    "exponential",
    "make_optimizer",
    "param_groups",
    "restore_hyperparameters",
    "warmup_hold_decay",
]
