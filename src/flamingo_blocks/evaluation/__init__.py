"""Evaluation: few-shot accuracy, exact matches, and the controls that tell what a model really looks at."""

from flamingo_blocks.evaluation.controls.shuffle_support import shuffle_support
from flamingo_blocks.evaluation.exact_match import exact_match
from flamingo_blocks.evaluation.few_shot import Accuracy, Questions, few_shot_accuracy, few_shot_curve

__all__ = ["Accuracy", "Questions", "exact_match", "few_shot_accuracy", "few_shot_curve", "shuffle_support"]
