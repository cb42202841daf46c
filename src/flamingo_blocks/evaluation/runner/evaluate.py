"""Few-shot evaluation from end to end: tasks in, scores with controls and intervals out."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks.data import ClipSegment, Dropped, ImageSegment
from flamingo_blocks.data.examples.read_item import ItemReader
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.controls import AtHand, find_control
from flamingo_blocks.evaluation.decode import Decoder, MediaPool, cut_frames
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.prompts import PromptProfile, find_profile
from flamingo_blocks.evaluation.results import EvaluationResult
from flamingo_blocks.evaluation.runner.ask import Asker, plan_prompts
from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.described import describe_run, describe_task, in_key_order
from flamingo_blocks.evaluation.runner.plan import Asked, part_of_rank, plan_family, shot_sources
from flamingo_blocks.evaluation.runner.prepare import PreparedTask, prepare_task, with_answered
from flamingo_blocks.evaluation.runner.readable import look_for_images
from flamingo_blocks.evaluation.runner.run_folder import RunFolder, rank_and_ranks
from flamingo_blocks.evaluation.runner.score_cells import score_cells
from flamingo_blocks.evaluation.shots import RicesShots, ShotSource, rices_features
from flamingo_blocks.evaluation.shots.rices_features import read_images
from flamingo_blocks.evaluation.task import Task
from flamingo_blocks.models import Flamingo, FlamingoProcessor
from flamingo_blocks.models.eval_mode import eval_mode

Progress = Callable[[str, int, int], None]


def evaluate(
    flamingo: Flamingo,
    processor: FlamingoProcessor,
    tasks: Sequence[Task],
    config: EvalConfig,
    *,
    folder: Path | None = None,
    name: str | None = None,
    on_progress: Progress = lambda _name, _done, _total: None,
) -> EvaluationResult:
    """Ask a model the queries of tasks with shots, and score what it answers, beside its controls.

    With a folder, what was answered is written as it comes, and the same call goes on from there after a kill: no query
    is asked twice. Under torchrun each process asks its share; the results are those of one process.

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
    if not tasks:
        raise EvaluationError("tasks is empty: nothing to evaluate")
    names = [task.name for task in tasks]
    if twice := sorted({each for each in names if names.count(each) > 1}):
        raise EvaluationError(f"tasks has {twice[0]!r} twice; answers are kept by that name, so give each its own")
    profile, started = find_profile(config.profile), time.monotonic()
    pool = MediaPool(flamingo, item_reader(processor), memory_bytes=config.media_bytes)
    with eval_mode(flamingo), torch.no_grad():
        rank, ranks = rank_and_ranks()
        look = look_for_images(pool, rank=rank, ranks=ranks)
        prepared = [prepare_task(task, config, unreadable=look) for task in tasks]
        with RunFolder.open(folder, describe_run(flamingo, processor, prepared, config, name=name)) as run:
            facts = {
                each.task.name: _ask_task(each, config, flamingo, processor, pool, profile, run, on_progress)
                for each in prepared
            }
    run.wait_for_all()
    predictions = run.read()
    ids = {each.task.name: {one.id for one in predictions if one.task == each.task.name} for each in prepared}
    answered = [with_answered(each, ids[each.task.name]) for each in prepared]
    cells = [
        cell
        for each in answered
        for cell in score_cells(
            each, [one for one in predictions if one.task == each.task.name], bootstrap=config.bootstrap
        )
    ]
    told = {**run.described, "seconds": round(time.monotonic() - started, 2), "images_encoded": pool.encoded}
    about = {each.task.name: {**describe_task(each), **facts[each.task.name]} for each in prepared}
    result = EvaluationResult(cells=tuple(cells), run=in_key_order(told), tasks=in_key_order(about))
    run.finish(result, predictions, answered)
    return result


def _ask_task(
    prepared: PreparedTask,
    config: EvalConfig,
    flamingo: Flamingo,
    processor: FlamingoProcessor,
    pool: MediaPool,
    profile: PromptProfile,
    run: RunFolder,
    on_progress: Progress,
) -> dict[str, object]:
    """Ask all of a task that is not answered yet; gives how it was asked."""
    task = prepared.task
    longest = config.max_new_tokens or task.max_new_tokens or profile.max_new_tokens[task.kind]
    beams = _num_beams(task, config, profile, flamingo)
    decoder = Decoder(
        flamingo, processor, pool, num_beams=beams,
        length_penalty=profile.length_penalty, max_new_tokens=longest, terminator=profile.terminator,
        memory_bytes=config.memory_bytes, max_rows=config.max_rows, share=config.share,
    )  # fmt: skip
    asker = Asker(decoder=decoder, task=task, profile=profile, max_new_tokens=longest, ensemble=config.ensemble)
    drawn = shot_sources(prepared, config)
    nearest = _rices(prepared, config, flamingo)
    seeds = config.seeds if nearest is None else config.seeds[:1]  # no seed would choose others
    sources = drawn if nearest is None else dict.fromkeys(seeds, nearest)
    families = []
    for control in ("none", *config.controls):
        for seed in seeds:
            at_hand = AtHand(task=task.name, seed=seed, queries=task.queries, blank=pool.blank)
            asked = plan_family(
                prepared, config, profile=profile, source=sources[seed], text_source=drawn[seed],
                control=find_control(control), at_hand=at_hand,
            )  # fmt: skip
            families.append((control, part_of_rank(plan_prompts(asker, asked), rank=run.rank, ranks=run.ranks)))
    total = sum(len(queries) for _, prompts in families for queries in prompts)
    done = 0

    def keep(answered: list[Prediction]) -> None:
        nonlocal done
        run.keep(answered)
        done += len(answered)
        on_progress(task.name, done, total)

    for control, prompts in families:
        left = list(_not_yet(prompts, run))
        done += sum(map(len, prompts)) - sum(map(len, left))
        on_progress(task.name, done, total)
        asker.ask_all(left, control=control, keep=keep)
    excluded = {query for source in sources.values() for query in source.excluded}
    return {"decoding": dict(decoder.facts), "num_beams": beams, "queries_with_excluded_shots": len(excluded)}


def _num_beams(task: Task, config: EvalConfig, profile: PromptProfile, flamingo: Flamingo) -> int:
    """Beams of open answers; one where the language model has no search of its own, which the result says."""
    if config.num_beams is not None or task.answering == "closed":
        return config.num_beams or 1
    if callable(getattr(flamingo.lm, "generate", None)):
        return profile.num_beams
    warnings.warn(
        f"{type(flamingo.lm).__name__} has no generate of its own, so answers to {task.name} are chosen greedily and "
        f"not by {profile.num_beams} beams; num_beams=1 says so",
        stacklevel=4,
    )
    return 1


def _not_yet(prompts: Sequence[list[Asked]], run: RunFolder) -> Iterator[list[Asked]]:
    for queries in prompts:
        if left := [each for each in queries if each.blank.key not in run.answered]:
            yield left


def _rices(prepared: PreparedTask, config: EvalConfig, flamingo: Flamingo) -> ShotSource | None:
    if config.selection != "rices" or any(query.support is not None for query in prepared.queries):
        return None
    if flamingo.vision is None:
        raise EvaluationError('selection is "rices", but the model has no vision tower; use selection="random"')

    task, tower = prepared.task, flamingo.vision
    both = (prepared.support, prepared.queries)
    features = [rices_features(items, tower=tower, reader=images_of) for items in both]
    return RicesShots(
        prepared.support, *features, queries=prepared.queries, task=task.name,
        balanced=config.balanced and task.classes is not None, classes=task.classes,
    )  # fmt: skip


def images_of(medium: ImageSegment | ClipSegment) -> Sequence[Any] | Dropped:
    """The images of an item as the model is shown them.

    Args:
        medium: An image or a clip.
    """
    return cut_frames(medium) if isinstance(medium, ClipSegment) else read_images(medium)


def item_reader(processor: FlamingoProcessor) -> ItemReader:
    """Reads images and clips as the processor of a model does.

    Args:
        processor: That of the model.
    """
    if processor.features is not None:
        return ItemReader(features=processor.features)
    return ItemReader(preprocess=processor.preprocess, clip_images=cut_frames)
