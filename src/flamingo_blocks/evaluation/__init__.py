"""Evaluation: few-shot accuracy, exact matches, and the controls that tell what a model really looks at."""

from flamingo_blocks.evaluation.controls.shuffle_support import shuffle_support
from flamingo_blocks.evaluation.exact_match import exact_match
from flamingo_blocks.evaluation.few_shot import Accuracy, Questions, few_shot_accuracy, few_shot_curve
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.runner import EvalConfig, evaluate, rescore
from flamingo_blocks.evaluation.score import Metric, Score
from flamingo_blocks.evaluation.task import Task, TaskReader

__all__ = [
    "Accuracy", "Cell", "EvalConfig", "EvaluationResult", "Metric", "Prediction", "Questions", "Score", "Task",
    "TaskItem", "TaskReader", "evaluate", "exact_match", "few_shot_accuracy", "few_shot_curve", "rescore",
    "shuffle_support",
]  # fmt: skip
