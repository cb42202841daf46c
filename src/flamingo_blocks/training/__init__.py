"""Training: losses, data sets and their weights, the loop, and what stands around it."""

from flamingo_blocks.ops.next_token_loss import IGNORED, next_token_loss
from flamingo_blocks.training.checkpoints import Checkpointer, Loaded
from flamingo_blocks.training.contrast import (
    PairVectors,
    RetrievalAccuracy,
    TwoTowers,
    contrastive_loss,
    retrieval_accuracy,
    two_towers_loss,
)
from flamingo_blocks.training.finetune import FeatureCache, train_only
from flamingo_blocks.training.loop import Position, TrainConfig, TrainResult, train
from flamingo_blocks.training.losses import flamingo_loss, flamingo_loss_sum, make_labels
from flamingo_blocks.training.objective import BatchParts, Objective, count_labels
from flamingo_blocks.training.optim import (
    Schedule,
    adamw,
    cosine,
    describe_groups,
    exponential,
    make_optimizer,
    param_groups,
    restore_hyperparameters,
    warmup_hold_decay,
)
from flamingo_blocks.training.planning import DEVICES, BatchShape, DeviceFacts, RunPlan, plan_run
from flamingo_blocks.training.ranks import (
    averaged_over,
    clip_gradients,
    gradient_sync,
    prepare_precision,
    shard,
    sum_over_ranks,
)
from flamingo_blocks.training.runs import (
    Feed,
    RunConfig,
    TrainingSet,
    call_recipe,
    describe_recipe,
    load_recipe,
    paper_feed,
    paper_sets,
    plan_config,
    start_run,
)
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.stop import StopRequest, stop_on
from flamingo_blocks.training.watching import (
    BadBatches,
    FewShotScore,
    GateValues,
    RunLog,
    SampleGenerations,
    gate_values,
    read_metrics,
)

__all__ = [
    "DEVICES",
    "IGNORED",
    "BadBatches",
    "BatchParts",
    "BatchShape",
    "Checkpointer",
    "DeviceFacts",
    "FeatureCache",
    "Feed",
    "FewShotScore",
    "GateValues",
    "Loaded",
    "Objective",
    "PairVectors",
    "Position",
    "RetrievalAccuracy",
    "RunConfig",
    "RunLog",
    "RunPlan",
    "SampleGenerations",
    "Schedule",
    "StepReport",
    "StopRequest",
    "TrainConfig",
    "TrainResult",
    "TrainingSet",
    "TwoTowers",
    "adamw",
    "averaged_over",
    "call_recipe",
    "clip_gradients",
    "contrastive_loss",
    "cosine",
    "count_labels",
    "describe_groups",
    "describe_recipe",
    "exponential",
    "flamingo_loss",
    "flamingo_loss_sum",
    "gate_values",
    "gradient_sync",
    "load_recipe",
    "make_labels",
    "make_optimizer",
    "next_token_loss",
    "paper_feed",
    "paper_sets",
    "param_groups",
    "plan_config",
    "plan_run",
    "prepare_precision",
    "read_metrics",
    "restore_hyperparameters",
    "retrieval_accuracy",
    "shard",
    "start_run",
    "stop_on",
    "sum_over_ranks",
    "train",
    "train_only",
    "two_towers_loss",
    "warmup_hold_decay",
]
