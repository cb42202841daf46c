"""COCO captions, in Karpathy's splits."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import Cider
from flamingo_blocks.evaluation.read_rows import Row
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import check_split, distinct
from flamingo_blocks.evaluation.tasks.karpathy import read_karpathy
from flamingo_blocks.evaluation.tasks.media_files import image_file
from flamingo_blocks.evaluation.tasks.task_files import find_files

SPLITS = ("test", "val")


def read_coco(folder: Path, split: str, *, restval: bool = False) -> Task:
    """Read COCO captions.

    Args:
        folder: Has `dataset_coco.json`, and the images in `train2014/` and `val2014/`.
        split: `"test"` or `"val"`: 5,000 images each.
        restval: Take the 30,504 images of Karpathy's `restval` into the support too; open_flamingo does not.

    Returns:
        The task. An item is an image with its captions; its id is COCO's.

    Raises:
        EvaluationError: If a file is missing or a row is wrong.

    Example:
        >>> import json
        >>> rows = [
        ...     {"split": split, "filepath": "val2014", "filename": f"{number}.jpg", "cocoid": number,
        ...      "sentences": [{"raw": "A cat on a mat."}]}
        ...     for number, split in ((42, "test"), (43, "train"))
        ... ]
        >>> Path("coco").mkdir()
        >>> _ = Path("coco/dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": rows}))
        >>> task = read_coco(Path("coco"), "test")
        >>> task.queries[0].id, task.queries[0].answers, len(task.support)
        ('42', ('A cat on a mat.',), 1)
    """
    check_split("coco", split, SPLITS)
    _, (file,) = find_files(folder, ["dataset_coco.json"])
    of_support = ("train", "restval") if restval else ("train",)
    found = read_karpathy(
        file, dataset="coco", splits=(split, *of_support), item_of=lambda row, captions: _item(folder, row, captions)
    )
    queries, support = distinct(found[split], [placed for part in of_support for placed in found[part]], file=file)
    return Task(name="coco", kind="caption", answering="open", metrics=(Cider(),), queries=queries, support=support)


def _item(folder: Path, row: Row, captions: tuple[str, ...]) -> TaskItem:
    name = f"{row.take('filepath', str)}/{row.take('filename', str)}"
    number = str(row.take("cocoid", int))
    return TaskItem(id=number, media=(image_file(folder, name),), answers=captions, cluster=number)


COCO = TaskReader(
    name="coco",
    title="COCO captions",
    metric="CIDEr-D",
    kind="caption",
    answering="open",
    files={
        "dataset_coco.json": "Karpathy's splits, with the captions",
        "train2014/, val2014/": "images: COCO_val2014_000000000042.jpg",
    },
    splits=SPLITS,
    read=read_coco,
)
