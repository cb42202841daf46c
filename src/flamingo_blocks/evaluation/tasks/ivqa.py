"""iVQA: questions about pieces of how-to videos, answered by five people."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import IvqaAccuracy
from flamingo_blocks.evaluation.read_rows import Row, read_csv
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles, cut_of

_SPLITS = ("test", "val")
_ANSWERS = tuple(f"answer{number}" for number in range(1, 6))
_COLUMNS = ("video_id", "start", "end", "question", *_ANSWERS)


def read_ivqa(folder: Path, split: str) -> Task:
    """Read iVQA.

    Args:
        folder: Holds `train.csv`, `val.csv` and `test.csv`, and the videos anywhere below, named by their id.
        split: `"test"` or `"val"`.

    Returns:
        The task, with the training split as support. The files have no ids: an item is called
        `{video_id}_{start}_{end}`, which is asked one question. A shot shows the answer that most people gave.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Yang et al., Just Ask (arXiv 2012.00451).
    """
    check_split("ivqa", split, _SPLITS)
    clips, file = ClipFiles(folder), folder / f"{split}.csv"
    queries, support = distinct(_items(file, clips), _items(folder / "train.csv", clips), file=file)
    return Task(
        name="ivqa",
        kind="question",
        answering="open",
        metrics=(IvqaAccuracy(),),
        queries=queries,
        support=support,
        demo_answer="majority",
    )


def _items(file: Path, clips: ClipFiles) -> list[Placed]:
    return [(_item(row, clips), row.place) for row in read_csv(file, _COLUMNS)]


def _item(row: Row, clips: ClipFiles) -> TaskItem:
    video = row.take("video_id", str)
    answers = tuple(row[key] for key in _ANSWERS if row[key].strip())
    if not answers:
        raise row.wrong("answer1", "wanted one answer at least in answer1 to answer5")
    return TaskItem(
        id=f"{video}_{row['start']}_{row['end']}",
        media=(clips.clip(video, cut_s=cut_of(row)),),
        texts={"question": row.take("question", str)},
        answers=answers,
        cluster=video,
    )


IVQA = TaskReader(
    name="ivqa",
    title="iVQA",
    metric="iVQA accuracy: two of five answers are enough",
    kind="question",
    answering="open",
    files={
        "{split}.csv": "questions and answers of the split that is asked",
        "train.csv": "questions and answers for shots",
        "{video_id}.mp4": "videos",
    },
    splits=_SPLITS,
    read=read_ivqa,
)
