"""Training: losses, parameter groups, schedules, and the loop over several weighted data sets."""

from flamingo_blocks.ops.next_token_loss import IGNORED, next_token_loss
from flamingo_blocks.training.loop import Objective, StepReport, TrainConfig, TrainResult, train
from flamingo_blocks.training.losses import flamingo_loss, make_labels
from flamingo_blocks.training.optimisers import adamw, param_groups
from flamingo_blocks.training.schedule import Schedule, warmup_hold_decay

__all__ = [
    "IGNORED",
    "Objective",
    "Schedule",
    "StepReport",
    "TrainConfig",
    "TrainResult",
    "adamw",
    "flamingo_loss",
    "make_labels",
    "next_token_loss",
    "param_groups",
    "train",
    "warmup_hold_decay",
]
