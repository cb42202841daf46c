"""STAR: which of four answers is right about a piece of a video of daily life."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import StarAccuracy
from flamingo_blocks.evaluation.read_rows import Row, read_list
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles, cut_of

STAR_TYPES = ("Interaction", "Sequence", "Prediction", "Feasibility")
_SPLITS = ("val",)


def read_star(folder: Path, split: str) -> Task:
    """Read STAR: four choices for each question, ranked by their likelihood.

    Args:
        folder: Holds `STAR_train.json`, `STAR_val.json`, and the videos of Charades anywhere below.
        split: `"val"`: the answers of the test split are not published.

    Returns:
        The task. `facts` of its items: `question_type`, one of `STAR_TYPES`. A video is a cluster.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Wu et al., STAR: A Benchmark for Situated Reasoning in Real-World Videos (2021).
    """
    check_split("star", split, _SPLITS)
    clips = ClipFiles(folder)
    file = folder / f"STAR_{split}.json"
    queries, support = distinct(_items(file, clips), _items(folder / "STAR_train.json", clips), file=file)
    return Task(
        name="star",
        kind="question",
        answering="closed",
        metrics=(StarAccuracy(),),
        queries=queries,
        support=support,
    )


def _items(file: Path, clips: ClipFiles) -> list[Placed]:
    return [(_item(row, clips), row.place) for row in read_list(file)]


def _item(row: Row, clips: ClipFiles) -> TaskItem:
    video, kind = row.take("video_id", str), row.take("question_id", str).partition("_")[0]
    if kind not in STAR_TYPES:
        raise row.wrong("question_id", f"wanted it to begin with one of {', '.join(STAR_TYPES)}")
    choices, answer = tuple(choice.take("choice", str) for choice in row.rows("choices")), row.take("answer", str)
    if len(choices) != 4:
        raise row.wrong("choices", f"wanted 4, found {len(choices)}")
    if answer not in choices:
        raise row.wrong("answer", f"wanted one of the choices {', '.join(map(repr, choices))}")
    return TaskItem(
        id=row.take("question_id", str),
        media=(clips.clip(video, cut_s=cut_of(row)),),
        texts={"question": row.take("question", str)},
        answers=(answer,),
        candidates=choices,
        cluster=video,
        facts={"question_type": kind},
    )


STAR = TaskReader(
    name="star",
    title="STAR",
    metric="accuracy over 4 choices, mean of the types",
    kind="question",
    answering="closed",
    files={
        "STAR_{split}.json": "questions of the split that is asked",
        "STAR_train.json": "questions for shots",
        "{video_id}.mp4": "videos of Charades",
    },
    splits=_SPLITS,
    read=read_star,
)
