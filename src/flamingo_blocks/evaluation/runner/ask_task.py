"""Ask a model all of one task that is not answered yet: every seed, number of shots and control."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.answering import AnswerSettings, EvaluatedModel
from flamingo_blocks.evaluation.answering.pictures import images_of
from flamingo_blocks.evaluation.controls import AtHand, find_control
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.prompts import PromptProfile, find_profile
from flamingo_blocks.evaluation.runner.ask import Asker, plan_prompts
from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.plan import Asked, part_of_rank, plan_family, shot_sources
from flamingo_blocks.evaluation.runner.prepare import PreparedTask
from flamingo_blocks.evaluation.runner.run_folder import RunFolder
from flamingo_blocks.evaluation.shots import RicesShots, ShotSource, rices_features
from flamingo_blocks.evaluation.task import Task

Progress = Callable[[str, int, int], None]
Family = tuple[str, list[list[Asked]]]  # name of a control, and its prompts


def ask_task(
    prepared: PreparedTask, config: EvalConfig, model: EvaluatedModel, run: RunFolder, on_progress: Progress
) -> dict[str, Any]:
    """Ask all of a task that is not answered yet.

    Args:
        prepared: The task.
        config: What decides the run.
        model: Answers.
        run: Keeps what is answered, and knows what was.
        on_progress: Called with the name of the task and how many of its queries are answered, of how many.

    Returns:
        How it was asked by this process, for result files.
    """
    task, profile = prepared.task, find_profile(config.profile)
    longest = config.max_new_tokens or task.max_new_tokens or profile.max_new_tokens[task.kind]
    beams = _num_beams(task, config, profile, model)
    settings = AnswerSettings(
        num_beams=beams, length_penalty=profile.length_penalty, max_new_tokens=longest, terminator=profile.terminator,
        memory_bytes=config.memory_bytes, max_rows=config.max_rows, share=config.share,
    )  # fmt: skip
    answerer = model.answerer(settings)
    asker = Asker(
        answerer=answerer, closed_gates=model.closed_gates, task=task, profile=profile, max_new_tokens=longest,
        ensemble=config.ensemble,
    )  # fmt: skip
    sources, families = _families(prepared, config, model, asker, run)
    _ask(families, asker, task, run, on_progress)
    excluded = {query for source in sources for query in source.excluded}
    return {"decoding": dict(answerer.facts), "num_beams": beams, "queries_with_excluded_shots": len(excluded)}


def _families(
    prepared: PreparedTask,
    config: EvalConfig,
    model: EvaluatedModel,
    asker: Asker,
    run: RunFolder,
) -> tuple[list[ShotSource], list[Family]]:
    """Where shots come from, and the share of this process of what is asked with them."""
    task, profile = prepared.task, asker.profile
    drawn = shot_sources(prepared, config)
    nearest = _rices(prepared, config, model)
    seeds = config.seeds if nearest is None else config.seeds[:1]  # no seed would choose others
    sources = drawn if nearest is None else dict.fromkeys(seeds, nearest)
    families = []
    for control in ("none", *config.controls):
        for seed in seeds:
            at_hand = AtHand(task=task.name, seed=seed, queries=task.queries, blank=model.blank)
            asked = plan_family(
                prepared, config, profile=profile, source=sources[seed], text_source=drawn[seed],
                control=find_control(control), at_hand=at_hand,
            )  # fmt: skip
            families.append((control, part_of_rank(plan_prompts(asker, asked), rank=run.rank, ranks=run.ranks)))
    return list(sources.values()), families


def _ask(families: Sequence[Family], asker: Asker, task: Task, run: RunFolder, on_progress: Progress) -> None:
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


def _not_yet(prompts: Sequence[list[Asked]], run: RunFolder) -> Iterator[list[Asked]]:
    for queries in prompts:
        if left := [each for each in queries if each.blank.key not in run.answered]:
            yield left


def _num_beams(task: Task, config: EvalConfig, profile: PromptProfile, model: EvaluatedModel) -> int:
    """Beams of open answers; one where the model has no search, which the result says."""
    if config.num_beams is not None or task.answering == "closed":
        return config.num_beams or 1
    if model.searches:
        return profile.num_beams
    warnings.warn(
        f"{model.describe()['name']} has no generate of its own, so answers to {task.name} are chosen greedily and "
        f"not by {profile.num_beams} beams; num_beams=1 says so",
        stacklevel=4,
    )
    return 1


def _rices(prepared: PreparedTask, config: EvalConfig, model: EvaluatedModel) -> ShotSource | None:
    if config.selection != "rices" or any(query.support is not None for query in prepared.queries):
        return None
    if model.tower is None:
        raise EvaluationError('selection is "rices", but the model has no vision tower; use selection="random"')
    task, tower = prepared.task, model.tower
    both = (prepared.support, prepared.queries)
    features = [rices_features(items, tower=tower, reader=images_of) for items in both]
    return RicesShots(
        prepared.support, *features, queries=prepared.queries, task=task.name,
        balanced=config.balanced and task.classes is not None, classes=task.classes,
    )  # fmt: skip
