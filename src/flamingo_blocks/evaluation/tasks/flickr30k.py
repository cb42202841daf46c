"""Captions of Flickr30k, in Karpathy's splits."""

from pathlib import Path, PurePosixPath

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import Cider
from flamingo_blocks.evaluation.read_rows import Row
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import check_split, distinct
from flamingo_blocks.evaluation.tasks.karpathy import read_karpathy
from flamingo_blocks.evaluation.tasks.media_files import image_file
from flamingo_blocks.evaluation.tasks.task_files import find_files

SPLITS = ("test", "val")


def read_flickr30k(folder: Path, split: str) -> Task:
    """Read captions of Flickr30k.

    Args:
        folder: Has `dataset_flickr30k.json`, and the images in `flickr30k-images/`.
        split: `"test"`, of 1,000 images, or `"val"`.

    Returns:
        The task. An item is an image with its captions; its id is the name of the file without its ending.

    Raises:
        EvaluationError: If a file is missing or a row is wrong.
    """
    check_split("flickr30k", split, SPLITS)
    _, (file,) = find_files(folder, ["dataset_flickr30k.json"])
    found = read_karpathy(
        file, dataset="flickr30k", splits=(split, "train"), item_of=lambda row, captions: _item(folder, row, captions)
    )
    queries, support = distinct(found[split], found["train"], file=file)
    return Task(
        name="flickr30k", kind="caption", answering="open", metrics=(Cider(),), queries=queries, support=support
    )


def _item(folder: Path, row: Row, captions: tuple[str, ...]) -> TaskItem:
    name = row.take("filename", str)
    stem = PurePosixPath(name).stem
    image = image_file(folder, f"flickr30k-images/{name}", url=name)
    return TaskItem(id=stem, media=(image,), answers=captions, cluster=stem)


FLICKR30K = TaskReader(
    name="flickr30k",
    title="Flickr30k",
    metric="CIDEr-D",
    kind="caption",
    answering="open",
    files={
        "dataset_flickr30k.json": "Karpathy's splits, with the captions",
        "flickr30k-images/": "images: 1000092795.jpg",
    },
    splits=SPLITS,
    read=read_flickr30k,
)
