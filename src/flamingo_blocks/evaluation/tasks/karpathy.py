"""Karpathy's files of splits, which COCO and Flickr30k are read from: an image a row, with its captions."""

from collections.abc import Callable, Collection
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.read_rows import Row, read_object
from flamingo_blocks.evaluation.tasks.check_items import Placed

SPLITS = ("train", "restval", "val", "test")  # that a row may be of


def read_karpathy(
    file: Path, *, dataset: str, splits: Collection[str], item_of: Callable[[Row, tuple[str, ...]], TaskItem]
) -> dict[str, list[Placed]]:
    """Read a file of Karpathy's splits.

    Args:
        file: The file.
        dataset: What it calls the dataset that it is of.
        splits: Splits whose items are wanted; rows of others are checked, and left out.
        item_of: Makes an item of a row and its captions, which are as the file has them.

    Returns:
        For each of `splits` its items, with their places.

    Raises:
        EvaluationError: If the file is of another dataset, or a row lacks a key, has no caption, or is of a split that
            no such file has.
    """
    top = read_object(file)
    if "dataset" in top and top["dataset"] != dataset:
        raise top.wrong("dataset", f"wanted {dataset!r}")
    found: dict[str, list[Placed]] = {split: [] for split in splits}
    for row in top.rows("images"):
        split = row.take("split", str)
        if split not in SPLITS:
            raise row.wrong("split", f"wanted one of {', '.join(SPLITS)}")
        captions = tuple(sentence.take("raw", str) for sentence in row.rows("sentences"))
        if not captions:
            raise EvaluationError(f"{row.place}: sentences is empty, wanted one caption at least")
        item = item_of(row, captions)
        if split in found:
            found[split].append((item, row.place))
    return found
