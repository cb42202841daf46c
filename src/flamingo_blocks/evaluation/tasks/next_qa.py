"""NExT-QA with open answers: why and how things happen in videos."""

from collections.abc import Mapping
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import NextQa
from flamingo_blocks.evaluation.read_rows import Row, read_csv, read_object
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles

NEXT_QA_TYPES = ("CW", "CH", "TN", "TP", "TC", "DB", "DC", "DL", "DO")
_SPLITS = ("test", "val")
_MAP = "map_vid_vidorID.json"
_EXTRA = "add_reference_answer_test.json"
_COLUMNS = ("video", "question", "answer", "qid", "type")


def read_next_qa(folder: Path, split: str) -> Task:
    """Read NExT-QA, the task with open answers.

    Args:
        folder: Holds the CSV files, `map_vid_vidorID.json`, `add_reference_answer_test.json`, and the videos anywhere
            below, named by their number.
        split: `"test"` or `"val"`.

    Returns:
        The task, with the training split as support. The id of an item is `{video}_{qid}`, its second answer the one
        that was added for the test. `facts`: `question_type`, one of `NEXT_QA_TYPES`. A video is a cluster.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Xiao et al., NExT-QA (arXiv 2105.08276).
    """
    check_split("next_qa", split, _SPLITS)
    clips, names = ClipFiles(folder), read_object(folder / _MAP)
    more = read_object(folder / _EXTRA) if split == "test" else None
    file, train = folder / f"{split}.csv", folder / "train.csv"
    queries, support = distinct(_items(file, clips, names, more), _items(train, clips, names, None), file=file)
    if more is not None and not any(len(item.answers) > 1 for item in queries):
        raise EvaluationError(f"{folder / _EXTRA} has no answer to a question of {file}; wanted those of its split")
    return Task(
        name="next_qa",
        kind="question",
        answering="open",
        metrics=(NextQa(),),
        queries=queries,
        support=support,
    )


def _items(file: Path, clips: ClipFiles, names: Row, more: Row | None) -> list[Placed]:
    return [(_item(row, clips, names, more), row.place) for row in read_csv(file, _COLUMNS)]


def _item(row: Row, clips: ClipFiles, names: Row, more: Row | None) -> TaskItem:
    video, number = row.take("video", str), row.take("qid", str)
    if video not in names:
        raise row.wrong("video", f"wanted one of the {len(names)} videos of {_MAP}")
    if row.take("type", str) not in NEXT_QA_TYPES:
        raise row.wrong("type", f"wanted one of {', '.join(NEXT_QA_TYPES)}")
    answers = (row.take("answer", str), *_more_answers(more, video, number))
    return TaskItem(
        id=f"{video}_{number}",
        media=(clips.clip(names.take(video, str)),),
        texts={"question": row.take("question", str)},
        answers=answers,
        cluster=video,
        facts={"question_type": row["type"]},
    )


def _more_answers(more: Row | None, video: str, number: str) -> tuple[str, ...]:
    if more is None or video not in more:
        return ()
    of_video: Mapping[str, object] = more.take(video, dict)
    if number not in of_video:
        return ()
    return (Row(of_video, f"{more.place}, {video}").take(number, str),)


NEXT_QA = TaskReader(
    name="next_qa",
    title="NExT-QA",
    metric="WUPS from 0.0",
    kind="question",
    answering="open",
    files={
        "{split}.csv": "questions and answers of the split that is asked",
        "train.csv": "questions and answers for shots",
        _EXTRA: "second answers, for the split test",
        _MAP: "in which folder of VidOR each video is",
        "{folder}/{video}.mp4": "videos",
    },
    splits=_SPLITS,
    read=read_next_qa,
)
