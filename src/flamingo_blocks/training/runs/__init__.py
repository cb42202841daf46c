"""Whole runs: what a recipe returns, how it is found, planned and started, and the paper's data sets."""

from flamingo_blocks.training.runs.recipes import call_recipe, describe_recipe, load_recipe
from flamingo_blocks.training.runs.run_config import Feed, RunConfig
from flamingo_blocks.training.runs.start_run import plan_config, start_run
from flamingo_blocks.training.runs.training_sets import TrainingSet, paper_feed, paper_sets

__all__ = [
    "Feed",
    "RunConfig",
    "TrainingSet",
    "call_recipe",
    "describe_recipe",
    "load_recipe",
    "paper_feed",
    "paper_sets",
    "plan_config",
    "start_run",
]
