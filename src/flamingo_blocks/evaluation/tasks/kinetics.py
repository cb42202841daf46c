"""Kinetics700 of 2020: which of 700 actions a clip shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from flamingo_blocks.evaluation.check_candidates import check_candidates
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import ClassAccuracy
from flamingo_blocks.evaluation.read_rows import Row, read_csv
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks._classes import SHOTS_A_CLASS, class_of
from flamingo_blocks.evaluation.tasks.check_items import check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles, cut_of, whole_number_of

_SPLITS = ("validate",)
_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")


def read_kinetics700(folder: Path, split: str) -> Task:
    """Read Kinetics700.

    Args:
        folder: Holds `train.csv` and `validate.csv`, and the clips anywhere below.
        split: `"validate"`.

    Returns:
        The task, with the training split as support. Its candidates are the labels of that split, sorted. `facts` of
        its items: `class_index`, the place of its label among them.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Smaira et al., A Short Note on the Kinetics-700-2020 Human Action Dataset (arXiv 2010.10864).
    """
    check_split("kinetics700", split, _SPLITS)
    clips, file = ClipFiles(folder), folder / f"{split}.csv"
    train = read_csv(folder / "train.csv", _COLUMNS)
    labels = tuple(sorted({row.take("label", str) for row in train}))
    check_candidates(labels, of=f"{folder / 'train.csv'}, labels")
    facts = {label: {"class_index": place} for place, label in enumerate(labels)}
    asked = read_csv(file, _COLUMNS)
    for row in asked:
        if row.take("label", str) not in facts:
            raise row.wrong("label", f"wanted one of the {len(labels)} labels of train.csv")
    queries, support = distinct(
        [(_item(row, clips, facts, (split, "val", "validation")), row.place) for row in asked],
        [(_item(row, clips, facts, ("train",)), row.place) for row in train],
        file=file,
    )
    return Task(
        name="kinetics700",
        kind="class",
        answering="closed",
        metrics=(ClassAccuracy(candidates=labels, top=(1, 5)),),
        queries=queries,
        support=support,
        candidates=labels,
        num_support=SHOTS_A_CLASS,
        support_by_class=True,
        classes=class_of,
    )


def _item(row: Row, clips: ClipFiles, facts: Mapping[str, Mapping[str, int]], splits: Sequence[str]) -> TaskItem:
    if row["split"] not in splits:
        raise row.wrong("split", f"wanted {splits[0]!r}")
    video, label = row.take("youtube_id", str), row.take("label", str)
    cut_of(row, "time_start", "time_end")
    name = f"{video}_{whole_number_of(row, 'time_start'):06d}_{whole_number_of(row, 'time_end'):06d}"
    return TaskItem(id=name, media=(clips.clip(name),), answers=(label,), cluster=video, facts=facts[label])


KINETICS700 = TaskReader(
    name="kinetics700",
    title="Kinetics700",
    metric="mean of top-1 and top-5 accuracy",
    kind="class",
    answering="closed",
    files={
        "validate.csv": "clips that are asked",
        "train.csv": "clips for shots",
        "{youtube_id}_{time_start:06d}_{time_end:06d}.mp4": "clips",
    },
    splits=_SPLITS,
    read=read_kinetics700,
)
