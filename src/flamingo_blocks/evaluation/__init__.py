"""Few-shot evaluation: tasks are asked with shots, answers are scored, and controls tell what the model looks at."""

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.runner import EvalConfig, evaluate, evaluate_model, rescore
from flamingo_blocks.evaluation.score import Metric, Score
from flamingo_blocks.evaluation.task import Task, TaskReader

__all__ = [
    "Cell", "EvalConfig", "EvaluationResult", "Metric", "Prediction", "Score", "Task", "TaskItem", "TaskReader",
    "evaluate", "evaluate_model", "rescore",
]  # fmt: skip
