"""What is asked in a run, and in which order: queries that share a prompt stand together."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from flamingo_blocks.evaluation.controls import AtHand, Control, Shown, ShownShot
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.prompts import PromptProfile, demo_answer
from flamingo_blocks.evaluation.runner.config import EvalConfig
from flamingo_blocks.evaluation.runner.prepare import PreparedTask
from flamingo_blocks.evaluation.shots import OwnShots, RandomShots, ShotSource

Sources = dict[int, ShotSource]


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One query with all that is shown for it.

    Args:
        blank: The prediction, without an answer yet.
        shown: Shots and query.
    """

    blank: Prediction
    shown: Shown

    @property
    def prompt_key(self) -> tuple[str, ...]:
        """Equal where shots are written in the same way; a prompt that goes on from this one has it as its begin."""
        return tuple(repr(shot.key) for shot in self.shown.shots)


def shot_sources(prepared: PreparedTask, config: EvalConfig) -> Sources:
    """Where the shots of each seed are drawn from by hash, or from the queries' own.

    Args:
        prepared: The task.
        config: What decides the run.
    """
    task = prepared.task
    if any(query.support is not None for query in prepared.queries):
        return {seed: OwnShots(task=task.name, seed=seed) for seed in config.seeds}
    return {
        seed: RandomShots(
            prepared.support, task=task.name, seed=seed, num_groups=config.groups,
            balanced=config.balanced and task.classes is not None, classes=task.classes,
        )
        for seed in config.seeds
    }  # fmt: skip


def plan_family(
    prepared: PreparedTask,
    config: EvalConfig,
    *,
    profile: PromptProfile,
    source: ShotSource,
    text_source: ShotSource,
    control: Control,
    at_hand: AtHand,
) -> list[Asked]:
    """All that is asked of a task with one seed and one control, with every number of shots.

    Args:
        prepared: The task.
        config: What decides the run.
        profile: Says how many shots in text alone stand for none.
        source: Where shots come from.
        text_source: Where shots in text alone come from, which must not be chosen by the query's picture.
        control: The control.
        at_hand: What it may use, the seed among it.
    """
    task, seed = prepared.task, at_hand.seed
    text_shots = profile.text_shots[task.answering] if config.text_shots is None else config.text_shots
    found = []
    for query in prepared.queries:
        for shots in config.shots_of(control.name):
            drawn = source.draw(query, shots) if shots else ()
            in_text = (
                text_source.draw(query, text_shots) if not shots and text_shots and _has_shots(prepared, query) else ()
            )
            shown = Shown(
                shots=tuple(
                    ShownShot(item=item, answer=demo_answer(item, task.demo_answer), with_media=not in_text)
                    for item in drawn or in_text
                ),
                query=query,
            )
            shown = control.change(shown, at_hand)
            blank = Prediction(
                task=task.name, id=query.id, shots=shots, seed=seed, control=control.name, text_shots=len(in_text),
                shot_ids=tuple(shot.item.id for shot in shown.shots),
            )  # fmt: skip
            found.append(Asked(blank=blank, shown=shown))
    return found


def _has_shots(prepared: PreparedTask, query: TaskItem) -> bool:
    return bool(prepared.support if query.support is None else query.support)


def drop_oldest(asked: Asked, count: int) -> Asked:
    """The same query without its first shots, which is counted.

    Args:
        asked: The query.
        count: How many to leave out.
    """
    if not count:
        return asked
    shown = replace(asked.shown, shots=asked.shown.shots[count:])
    blank = replace(asked.blank, dropped_shots=count, shot_ids=asked.blank.shot_ids[count:])
    return Asked(blank=blank, shown=shown)


def in_order(asked: Iterable[Asked]) -> list[list[Asked]]:
    """Queries by prompt, a prompt directly before those that go on from it.

    Args:
        asked: In any order.

    Returns:
        One list for each prompt, sorted by the id of the query: the order does not depend on the one that came.
    """
    by_prompt: dict[tuple[str, ...], list[Asked]] = {}
    for each in asked:
        by_prompt.setdefault(each.prompt_key, []).append(each)
    return [sorted(by_prompt[key], key=lambda each: each.blank.key) for key in sorted(by_prompt)]


def part_of_rank(prompts: Sequence[list[Asked]], *, rank: int, ranks: int) -> list[list[Asked]]:
    """The share of one process: a run of neighbours, so that few prompts run in two processes.

    Args:
        prompts: What `in_order` gave.
        rank: Number of the process.
        ranks: Number of processes.

    Example:
        >>> part_of_rank([], rank=0, ranks=2)  # with nothing to ask
        []
    """
    total = sum(map(len, prompts))
    first, last = total * rank // ranks, total * (rank + 1) // ranks
    return list(_between(prompts, first, last))


def _between(prompts: Sequence[list[Asked]], first: int, last: int) -> Iterator[list[Asked]]:
    begin = 0
    for queries in prompts:
        part = queries[max(first - begin, 0) : max(last - begin, 0)]
        if part:
            yield part
        begin += len(queries)
