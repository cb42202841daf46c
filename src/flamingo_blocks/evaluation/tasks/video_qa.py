"""MSVD-QA and MSRVTT-QA: questions about short clips, each with one word as its answer."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import ExactMatch
from flamingo_blocks.evaluation.read_rows import Row, read_list, read_text
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles

_SPLITS = ("test", "val")
_MAPPING = "youtube_mapping.txt"


def read_msvd_qa(folder: Path, split: str) -> Task:
    """Read MSVD-QA.

    Its clips are pieces of videos of YouTube, named `{video}_{start}_{end}.avi`. Pieces of one video are one cluster,
    so none of them is a shot for another.

    Args:
        folder: Holds the files of MSVD-QA, and the clips anywhere below.
        split: `"test"` or `"val"`.

    Returns:
        The task, with the training split as support.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Xu et al., Video Question Answering via Gradually Refined Attention (2017).
    """
    check_split("msvd_qa", split, _SPLITS)
    return _read("msvd_qa", folder, split, suffix=".avi", names=partial(_mapped, _mapping(folder / _MAPPING)))


def read_msrvtt_qa(folder: Path, split: str) -> Task:
    """Read MSRVTT-QA, whose clips are `video{n}.mp4`.

    Args:
        folder: Holds the files of MSRVTT-QA, and the clips anywhere below.
        split: `"test"` or `"val"`.

    Returns:
        The task, with the training split as support.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Xu et al., Video Question Answering via Gradually Refined Attention (2017).
    """
    check_split("msrvtt_qa", split, _SPLITS)
    return _read("msrvtt_qa", folder, split, suffix=".mp4", names=lambda row: f"video{row.take('video_id', int)}")


def _read(name: str, folder: Path, split: str, *, suffix: str, names: Callable[[Row], str]) -> Task:
    clips = ClipFiles(folder, suffix=suffix)
    file, train = folder / f"{split}_qa.json", folder / "train_qa.json"
    asked, shown = (_items(each, clips, names, pieces=suffix == ".avi") for each in (file, train))
    queries, support = distinct(asked, shown, file=file)
    return Task(
        name=name,
        kind="question",
        answering="open",
        metrics=(ExactMatch(),),
        queries=queries,
        support=support,
    )


def _items(file: Path, clips: ClipFiles, names: Callable[[Row], str], *, pieces: bool) -> list[Placed]:
    return [(_item(row, clips, names(row), pieces=pieces), row.place) for row in read_list(file)]


def _item(row: Row, clips: ClipFiles, name: str, *, pieces: bool) -> TaskItem:
    return TaskItem(
        id=row.text("id"),
        media=(clips.clip(name),),
        texts={"question": row.take("question", str)},
        answers=(row.take("answer", str),),
        cluster=name.rsplit("_", 2)[0] if pieces else name,
    )


def _mapping(file: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if line.strip():
            match = re.fullmatch(r"(\S+)\s+vid(\d+)", line.strip())
            if match is None:
                raise EvaluationError(f"{file}, line {number}: is {line!r:.60}, wanted '<clip> vid<number>'")
            if (video := int(match[2])) in found:
                raise EvaluationError(f"{file}, line {number}: vid{video} is {found[video]} already; it may come once")
            found[video] = match[1]
    return found


def _mapped(mapping: dict[int, str], row: Row) -> str:
    video = row.take("video_id", int)
    if video not in mapping:
        raise row.wrong("video_id", f"wanted a number of {_MAPPING}, which has {len(mapping)}")
    return mapping[video]


MSVD_QA = TaskReader(
    name="msvd_qa",
    title="MSVD-QA",
    metric="top-1 accuracy",
    kind="question",
    answering="open",
    files={
        "{split}_qa.json": "questions and answers of the split that is asked",
        "train_qa.json": "questions and answers for shots",
        _MAPPING: "which clip each vid is",
        "{video}_{start}_{end}.avi": "clips",
    },
    splits=_SPLITS,
    read=read_msvd_qa,
)
MSRVTT_QA = TaskReader(
    name="msrvtt_qa",
    title="MSRVTT-QA",
    metric="top-1 accuracy",
    kind="question",
    answering="open",
    files={
        "{split}_qa.json": "questions and answers of the split that is asked",
        "train_qa.json": "questions and answers for shots",
        "video{n}.mp4": "clips",
    },
    splits=_SPLITS,
    read=read_msrvtt_qa,
)
