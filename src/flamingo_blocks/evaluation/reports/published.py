"""What papers and model cards say of the same tasks, as data."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from statistics import fmean

FINE_TUNED = "fine-tuned SotA"  # the model under which the best fine-tuned scores of 2022 stand


@dataclass(frozen=True, kw_only=True)
class Published:
    """One published score.

    Args:
        model: As its paper calls it.
        task: Short name, as on the command line.
        shots: Number of shots; None of models that are not asked with any.
        score: In the unit of the paper; None where the prompt is longer than the model reads.
        metric: As the paper names it; which normaliser or tokenizer it used is often not said.
        split: What was asked; empty where the source that was read does not say.
        selection: `"random"` or `"rices"`, or `"none"` of models without shots.
        source: Paper and table.
        notes: What to know before it is compared with anything.

    Example:
        >>> row = published_scores("coco", model="Flamingo-80B")[0]
        >>> row.task, row.shots, row.score, row.metric
        ('coco', 0, 84.3, 'CIDEr')
    """

    model: str
    task: str
    shots: int | None
    score: float | None
    metric: str
    split: str
    selection: str
    source: str
    notes: str


def published_scores(task: str | None = None, *, model: str | None = None) -> tuple[Published, ...]:
    """Published scores: of Flamingo, OpenFlamingo, IDEFICS and Otter, and the best fine-tuned ones of their time.

    Args:
        task: Those of one task; marks and case are not looked at, so `"okvqa"` is `"OK-VQA"`. All by default.
        model: Those of one model.

    Example:
        >>> rows = published_scores("coco", model="Flamingo-3B")
        >>> [(row.shots, row.score) for row in rows]
        [(0, 73.0), (4, 85.0), (8, 90.6), (16, 95.4), (32, 99.0)]
        >>> rows[0].source
        'Flamingo (arXiv 2204.14198v1), table 3'
    """
    wanted = None if task is None else _plain(task)
    return tuple(row for row in _all() if wanted in {None, _plain(row.task)} and model in {None, row.model})


def published_curve(task: str, model: str, *, carried: bool = False) -> dict[int, float]:
    """Score by number of shots that were drawn at random.

    Args:
        task: Name of the task.
        model: Name of the model.
        carried: Where the prompt is longer than the model reads, take the score with fewer shots, as the paper does in
            its means over tasks; else that number of shots is left out.

    Example:
        >>> published_curve("visdial", "Flamingo-9B")
        {0: 48.0, 4: 50.4, 8: 51.2, 16: 51.3}
        >>> published_curve("visdial", "Flamingo-9B", carried=True)[32]
        51.3
    """
    found: dict[int, float] = {}
    last = None
    for row in published_scores(task, model=model):  # by shots
        if row.selection == "random" and row.shots is not None:
            last = row.score if row.score is not None else last if carried else None
            if last is not None:
                found[row.shots] = last
    return found


def mean_of_ratios(scores: Mapping[str, float]) -> float | None:
    """Mean over tasks of score / best fine-tuned score of 2022, in percent; None without a task that has one.

    Args:
        scores: Score by task. A task without a fine-tuned score does not count.

    Example:
        >>> round(mean_of_ratios({"coco": 99.0, "vqav2": 57.1, "unheard_of": 3.0}), 1)
        70.1

    Source:
        Flamingo (arXiv 2204.14198), figure 2.
    """
    found = [100.0 * score / best for task, score in scores.items() if (best := fine_tuned(task)) is not None]
    return fmean(found) if found else None


def fine_tuned(task: str) -> float | None:
    """The best fine-tuned score of 2022, if there is one.

    Args:
        task: Name of the task.

    Example:
        >>> fine_tuned("coco")
        143.3
    """
    rows = published_scores(task, model=FINE_TUNED)
    return rows[0].score if rows else None


@cache
def _all() -> tuple[Published, ...]:
    text = files("flamingo_blocks.evaluation.reports").joinpath("published.json").read_text(encoding="utf-8")
    return tuple(Published(**row) for row in json.loads(text))


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
