"""Small evaluations that several tests do: another batch size, another order, other processes, after a kill."""

import json
import os
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from flamingo_blocks.evaluation import EvalConfig, EvaluationResult, Task, evaluate
from flamingo_blocks.evaluation.reports import read_predictions
from flamingo_blocks.evaluation.synthetic import synthetic_task
from flamingo_blocks.training.ranks.process_group import process_group
from tests.evaluation.subjects import make_subject
from tests.language_models import make_language_model

CONFIG = EvalConfig(
    shots=(0, 1, 2), seeds=(0, 1), groups=2, controls=("gates_closed", "shuffle_images", "blind"), bootstrap=50,
    max_new_tokens=3, num_queries=7,
)  # fmt: skip


def make_tasks() -> list[Task]:
    """One that is written and drawn by groups, one that is ranked and brings its own shots."""
    written = synthetic_task("counting", queries=8, size=8)
    return [written, synthetic_task("binding", queries=5, size=8, answering="closed")]


def run(
    config: EvalConfig = CONFIG, *, folder: Path | None = None, reverse: bool = False, tasks: Any = None, **more: Any
) -> Any:
    """An evaluation of the one model."""
    lm = make_language_model("llama", max_position_embeddings=512)
    flamingo, processor = make_subject(lm=lm)
    tasks = make_tasks() if tasks is None else tasks
    if reverse:
        tasks = [replace(task, queries=task.queries[::-1], support=task.support[::-1]) for task in tasks]
    return evaluate(flamingo, processor, tasks, config, folder=folder, **more)


def answers(folder: Path) -> dict[Any, Any]:
    """What was answered, with log-probabilities as far as they are one number."""
    return {
        one.key: (
            one.raw,
            one.answer,
            one.stopped_by,
            one.shot_ids,
            one.prompt,
            tuple(round(p, 4) for p in one.log_probs),
        )
        for one in read_predictions(folder / "predictions.jsonl")
    }


def scores(result: EvaluationResult) -> dict[Any, Any]:
    return {
        (cell.task, cell.shots, cell.seed, cell.control): (cell.scores, cell.interval, cell.difference)
        for cell in result.cells
    }


def run_in_process(folder: str) -> None:
    """For `run_together`, which calls what stands in a module."""
    run(folder=Path(folder))


if __name__ == "__main__":  # for a test that kills it, alone or under torchrun
    with process_group("gloo") if "RANK" in os.environ else nullcontext():
        run(folder=Path(json.loads(sys.argv[1])["folder"]))
