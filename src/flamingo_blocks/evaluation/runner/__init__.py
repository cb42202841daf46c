"""The runner: asks, keeps, scores and reports."""

from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.evaluate import evaluate, evaluate_model
from flamingo_blocks.evaluation.runner.rescore import rescore

__all__ = ["EvalConfig", "evaluate", "evaluate_model", "rescore"]
