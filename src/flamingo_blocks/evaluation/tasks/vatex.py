"""VATEX: captions of clips, in English."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import Cider
from flamingo_blocks.evaluation.read_rows import Row, read_list
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.clip_files import ClipFiles

_TRAIN = "vatex_training_v1.0.json"
_PRIVATE = "private_test"
_FILES = {
    "public_test": "vatex_public_test_english_v1.1.json",
    "validation": "vatex_validation_v1.0.json",
    _PRIVATE: "vatex_private_test_without_annotations.json",
}


def read_vatex(folder: Path, split: str) -> Task:
    """Read VATEX.

    Args:
        folder: Holds the files of VATEX, and the clips anywhere below.
        split: `"public_test"` or `"validation"`; or `"private_test"`, which has no captions: its items have none.

    Returns:
        The task, with the training split as support. Clips of one video of YouTube are a cluster.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Wang et al., VATEX (arXiv 1904.03493).
    """
    check_split("vatex", split, tuple(_FILES))
    clips, file = ClipFiles(folder), folder / _FILES[split]
    queries, support = distinct(
        _items(file, clips, captioned=split != _PRIVATE), _items(folder / _TRAIN, clips, captioned=True), file=file
    )
    return Task(
        name="vatex",
        kind="caption",
        answering="open",
        metrics=(Cider(),),
        queries=queries,
        support=support,
    )


def _items(file: Path, clips: ClipFiles, *, captioned: bool) -> list[Placed]:
    return [(_item(row, clips, captioned=captioned), row.place) for row in read_list(file)]


def _item(row: Row, clips: ClipFiles, *, captioned: bool) -> TaskItem:
    video = row.take("videoID", str)
    captions = row.texts("enCap") if captioned else ()
    if captioned and not captions:
        raise row.wrong("enCap", "wanted one caption at least")
    # Its name is the id at YouTube, which may have any mark in it, and both ends of the piece.
    return TaskItem(id=video, media=(clips.clip(video),), answers=captions, cluster=video.rsplit("_", 2)[0])


VATEX = TaskReader(
    name="vatex",
    title="VATEX",
    metric="CIDEr-D",
    kind="caption",
    answering="open",
    files={
        _FILES["public_test"]: "captions of the split public_test",
        _FILES["validation"]: "captions of the split validation",
        _FILES[_PRIVATE]: "names of the clips of private_test",
        _TRAIN: "captions for shots",
        "{videoID}.mp4": "clips",
    },
    splits=tuple(_FILES),
    read=read_vatex,
)
