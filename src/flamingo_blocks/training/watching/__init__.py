"""Seeing a run: a line a step, scores and samples at intervals, and the batches that went wrong."""

from flamingo_blocks.training.watching.bad_batches import BadBatches
from flamingo_blocks.training.watching.measures import FewShotScore, GateValues, SampleGenerations, gate_values
from flamingo_blocks.training.watching.run_log import RunLog
from flamingo_blocks.training.watching.step_lines import read_metrics
from flamingo_blocks.training.watching.undisturbed import undisturbed

__all__ = [
    "BadBatches",
    "FewShotScore",
    "GateValues",
    "RunLog",
    "SampleGenerations",
    "gate_values",
    "read_metrics",
    "undisturbed",
]
