"""Score predictions again, without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prompts import find_profile
from flamingo_blocks.evaluation.reports import read_predictions, read_results, write_report
from flamingo_blocks.evaluation.results import EvaluationResult
from flamingo_blocks.evaluation.runner.metrics_of_run import scored_as
from flamingo_blocks.evaluation.runner.prepare import PreparedTask, choose_support, hash_of_items, with_answered
from flamingo_blocks.evaluation.runner.run_folder import PREDICTIONS, RESULTS, right_answers
from flamingo_blocks.evaluation.runner.score_cells import score_cells
from flamingo_blocks.evaluation.task import Task


def rescore(folder: Path, tasks: Sequence[Task]) -> EvaluationResult:
    """Score the predictions of a finished run again, and write its report again.

    The same predictions and metrics give the same files, byte for byte; where metrics have changed, the answers need
    not be asked for again.

    Args:
        folder: Where `evaluate` wrote.
        tasks: The tasks that were asked.

    Returns:
        The scores.

    Raises:
        EvaluationError: If the folder holds no finished run, a task that was asked is not given, or predictions are of
            queries that the task does not have.

    Example:
        >>> from flamingo_blocks.evaluation import EvalConfig, evaluate
        >>> from flamingo_blocks.evaluation.synthetic import synthetic_task
        >>> from flamingo_blocks.models import FlamingoProcessor, build_tiny_flamingo
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [3 + ord(letter) % 29 for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(chr(94 + token) for token in ids)
        >>> flamingo = build_tiny_flamingo()
        >>> processor = FlamingoProcessor(
        ...     tokenizer=Letters(), preprocess=flamingo.vision.preprocess, media_token_id=flamingo.media_token_id,
        ...     end_token_id=flamingo.end_token_id, pad_token_id=0, bos_token_id=None,
        ... )
        >>> task = synthetic_task("binding", queries=4, size=8, answering="closed")
        >>> before = evaluate(
        ...     flamingo, processor, [task], EvalConfig(shots=(2,), seeds=(0,), controls=(), bootstrap=0), folder="out"
        ... )
        >>> rescore(Path("out"), [task]).cells == before.cells  # no model is asked
        True
    """
    before = read_results(folder / RESULTS)
    if "settings" not in before.run:
        raise EvaluationError(f"{folder / 'results.json'}: run has no 'settings'; name a folder that evaluate wrote")
    predictions = read_predictions(folder / PREDICTIONS)
    by_name = {task.name: task for task in tasks}
    if missing := sorted(before.tasks.keys() - by_name.keys()):
        raise EvaluationError(f"{folder} has predictions for {', '.join(missing)}, which tasks lacks; give all of them")
    settings = before.run["settings"]
    prepared, cells = [], []
    for name, told in before.tasks.items():
        own = [one for one in predictions if one.task == name]
        task = scored_as(by_name[name], find_profile(settings["profile"]).normalise)
        ready = _prepared(task, told, {one.id for one in own})
        prepared.append(ready)
        cells += score_cells(ready, own, bootstrap=told.get("bootstrap", settings["bootstrap"]))
    result = replace(before, cells=tuple(cells))
    write_report(folder, result, predictions, name=before.run["model"]["name"], answers=right_answers(prepared))
    return result


def _prepared(task: Task, told: Mapping[str, Any], asked: set[str]) -> PreparedTask:
    """The task as it was asked: what was missing then is missing now, whatever files are there."""
    left = [item for item in task.support if item.id not in told["replaced"]]
    support = choose_support(task, left)
    if (found := hash_of_items(support)) != told["support_hash"]:
        raise EvaluationError(
            f"task {task.name} has a support of hash {found}, then {told['support_hash']}; give the files of then"
        )
    ready = PreparedTask(
        task=task, queries=task.queries, support=support, missing=dict(told["missing"]),
        replaced=dict(told["replaced"]),
    )  # fmt: skip
    return with_answered(ready, asked)
