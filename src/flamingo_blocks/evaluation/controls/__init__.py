"""Controls and baselines: whether a model looks at its images, and what a score has to beat."""

from flamingo_blocks.evaluation.controls.baselines import BASELINES, baseline_predictions, copy_rates, most_frequent
from flamingo_blocks.evaluation.controls.control import (
    CONTROLS,
    DEFAULT_CONTROLS,
    AtHand,
    Control,
    find_control,
)
from flamingo_blocks.evaluation.controls.shown import Shown, ShownShot

__all__ = [
    "BASELINES", "CONTROLS", "DEFAULT_CONTROLS", "AtHand", "Control", "Shown", "ShownShot",
    "baseline_predictions", "copy_rates", "find_control", "most_frequent",
]  # fmt: skip
