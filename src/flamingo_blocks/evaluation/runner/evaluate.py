"""Few-shot evaluation from end to end: tasks in, scores with controls and intervals out."""

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.answering import EvaluatedModel, FlamingoModel
from flamingo_blocks.evaluation.controls import DEFAULT_CONTROLS, find_control
from flamingo_blocks.evaluation.results import EvaluationResult
from flamingo_blocks.evaluation.runner.ask_task import Progress, ask_task
from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.described import describe_run, describe_task, in_key_order
from flamingo_blocks.evaluation.runner.prepare import prepare_task, with_answered
from flamingo_blocks.evaluation.runner.processes import gathered, merged_facts, rank_and_ranks
from flamingo_blocks.evaluation.runner.readable import look_for_images
from flamingo_blocks.evaluation.runner.run_folder import RunFolder
from flamingo_blocks.evaluation.runner.score_cells import score_cells
from flamingo_blocks.evaluation.task import Task
from flamingo_blocks.models import Flamingo, FlamingoProcessor


def evaluate(
    flamingo: Flamingo,
    processor: FlamingoProcessor,
    tasks: Sequence[Task],
    config: EvalConfig,
    *,
    folder: str | os.PathLike[str] | None = None,
    name: str | None = None,
    on_progress: Progress = lambda _name, _done, _total: None,
) -> EvaluationResult:
    """Ask a model the queries of tasks with shots, and score what it answers, beside its controls.

    With a folder, what was answered is written as it comes, and the same call goes on from there after a kill: no query
    is asked twice. Tasks of earlier calls for the folder stay in its report. Under torchrun each process asks its
    share; the results are those of one process.

    Args:
        flamingo: The model; it is asked in eval mode, and each of its parts is put back into its own mode.
        processor: Tokenizer, special tokens and `preprocess` that belong to it.
        tasks: Tasks, as `read_task` or `synthetic_task` gives them.
        config: What decides the evaluation.
        folder: Where `predictions.jsonl`, `results.json`, `report.md` and `report.html` are written.
        name: What the report calls the model.
        on_progress: Called with the name of a task and how many of its queries are answered, of how many.

    Returns:
        Scores of every task, number of shots, seed and control.

    Raises:
        EvaluationError: If two tasks have one name, a query cannot be asked, the support is too small, images are
            missing, or the folder holds answers of another run.

    Example:
        >>> from flamingo_blocks.evaluation.synthetic import synthetic_task
        >>> from flamingo_blocks.models import FlamingoProcessor, build_tiny_flamingo
        >>> class Letters:
        ...     def encode(self, text):
        ...         return [3 + ord(letter) % 29 for letter in text]
        ...
        ...     def decode(self, ids):
        ...         return "".join(chr(96 + each) for each in ids)
        >>> flamingo = build_tiny_flamingo()
        >>> processor = FlamingoProcessor(
        ...     tokenizer=Letters(), preprocess=flamingo.vision.preprocess, media_token_id=flamingo.media_token_id,
        ...     end_token_id=flamingo.end_token_id, pad_token_id=0, bos_token_id=None,
        ... )
        >>> task = synthetic_task("binding", queries=4, size=8, answering="closed")
        >>> found = evaluate(flamingo, processor, [task], EvalConfig(shots=(0, 2), seeds=(0,), bootstrap=0))
        >>> found.cell("binding_closed", 2).counts["asked"]
        4

    Source:
        Flamingo (arXiv 2204.14198), section 3 and appendix B.1: tasks, prompts, draws; controls and intervals are ours.
    """
    model = FlamingoModel(flamingo, processor, media_bytes=config.media_bytes)
    return evaluate_model(model, tasks, config, folder=folder, name=name, on_progress=on_progress)


def evaluate_model(
    model: EvaluatedModel,
    tasks: Sequence[Task],
    config: EvalConfig,
    *,
    folder: str | os.PathLike[str] | None = None,
    name: str | None = None,
    on_progress: Progress = lambda _name, _done, _total: None,
) -> EvaluationResult:
    """Ask any model the queries of tasks with shots: the same prompts, draws, controls and files as `evaluate`.

    Args:
        model: A `TransformersModel`, or a `VisionLanguageModel` of your own. The control that closes gates is left out
            where there are none; by default `blind` is in its place.
        tasks: As for `evaluate`.
        config: As for `evaluate`; what it says of memory and of sharing prompts is for a Flamingo.
        folder: As for `evaluate`.
        name: As for `evaluate`.
        on_progress: As for `evaluate`.

    Returns:
        Scores of every task, number of shots, seed and control.

    Raises:
        EvaluationError: As by `evaluate`, or if the model gives another number of answers than it was asked.

    Example:
        >>> from flamingo_blocks.evaluation.answering import VisionLanguageModel
        >>> from flamingo_blocks.evaluation.decode import CandidateScores
        >>> from flamingo_blocks.evaluation.synthetic import synthetic_task
        >>> class SaysTheFirst(VisionLanguageModel):
        ...     identity = "says the first"
        ...
        ...     def write(self, prompts, *, num_beams, length_penalty, max_new_tokens):
        ...         raise NotImplementedError
        ...
        ...     def score(self, prompts, candidates):
        ...         ranks = [tuple(-float(place) for place in range(len(texts))) for texts in candidates]
        ...         return [CandidateScores(log_probs=each, num_tokens=(1,) * len(each)) for each in ranks]
        >>> task = synthetic_task("binding", queries=4, size=8, answering="closed")
        >>> config = EvalConfig(shots=(2,), seeds=(0,), controls=("shuffle_images",), bootstrap=0)
        >>> evaluate_model(SaysTheFirst(), [task], config).cell("binding_closed", 2).counts["asked"]
        4
    """
    _check(model, tasks)
    started, wanted = time.monotonic(), config.controls
    config = _with_controls_of(model, config)
    with model.at_rest(), torch.no_grad():
        rank, ranks = rank_and_ranks()
        look = look_for_images(model, rank=rank, ranks=ranks)
        prepared = [prepare_task(task, config, unreadable=look) for task in tasks]
        with RunFolder.open(
            None if folder is None else Path(folder), describe_run(model, prepared, config, name=name)
        ) as run:
            run.check_queries(prepared)
            facts = {each.task.name: ask_task(each, config, model, run, on_progress) for each in prepared}
    run.wait_for_all()
    predictions = run.read()
    of_task = {each.task.name: [one for one in predictions if one.task == each.task.name] for each in prepared}
    answered = [with_answered(each, {one.id for one in of_task[each.task.name]}) for each in prepared]
    scored = (score_cells(each, of_task[each.task.name], bootstrap=config.bootstrap) for each in answered)
    cells = tuple(cell for some in scored for cell in some)
    for each in prepared:
        parts = gathered(facts[each.task.name]["decoding"])
        facts[each.task.name]["decoding"] = run.with_earlier_facts(each.task.name, merged_facts(parts))
    encoded = sum(gathered(model.images_encoded))
    told = {
        **run.described, "seconds": round(time.monotonic() - started, 2), "images_encoded": encoded,
        "controls_left_out": [control for control in wanted if control not in config.controls],
    }  # fmt: skip
    about = {
        each.task.name: {**describe_task(each), "bootstrap": config.bootstrap, **facts[each.task.name]}
        for each in prepared
    }
    found = EvaluationResult(cells=cells, run=in_key_order(told), tasks=in_key_order(about))
    result = run.with_earlier(found)
    run.finish(result, predictions, answered)
    return result


def _check(model: object, tasks: Sequence[Task]) -> None:
    """Refuse what no run can be made of."""
    if not isinstance(model, EvaluatedModel):
        raise EvaluationError(
            f"model is a {type(model).__name__}; wanted a TransformersModel or FlamingoModel around it, or a "
            "VisionLanguageModel"
        )
    if not tasks:
        raise EvaluationError("tasks is empty: nothing to evaluate")
    names = [task.name for task in tasks]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise EvaluationError(f"tasks has {twice[0]!r} twice; answers are kept by that name, so give each its own")


def _with_controls_of(model: EvaluatedModel, config: EvalConfig) -> EvalConfig:
    """The settings with the controls that the model can be put to; where it has no gates, the default is `blind`."""
    without = [name for name in config.controls if find_control(name).closes_gates]
    if not without or model.closed_gates() is not None:
        return config
    left = tuple(name for name in config.controls if name not in without)
    if config.controls == DEFAULT_CONTROLS:  # nobody has asked for it by name
        return replace(config, controls=("blind", *left))
    warnings.warn(
        f"{type(model).__name__} has no gates to close, so the control {without[0]} is not asked; leave it out of "
        "controls, or take blind",
        stacklevel=3,
    )
    return replace(config, controls=left)
