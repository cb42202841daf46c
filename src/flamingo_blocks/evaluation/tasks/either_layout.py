"""Tasks that are handed around in two layouts: their own files, and those that open_flamingo cut them into."""

from collections.abc import Callable, Sequence
from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.tasks.check_items import Placed, distinct
from flamingo_blocks.evaluation.tasks.task_files import find_files


def read_either_layout(
    folder: Path,
    split: str,
    official: Sequence[str],
    *,
    read: Callable[[Path, Path, str], list[Placed]],
    read_recut: Callable[[Path, Path, Path | None, str], list[Placed]],
) -> tuple[tuple[TaskItem, ...], tuple[TaskItem, ...]]:
    """Read the queries of a split, and the support, from whichever layout is there.

    Args:
        folder: The task's folder.
        split: Split of the queries; of `"test"` there are no annotations.
        official: Names of the task's own files: of the support, then of the split.
        read: Reads one of its own files, from `(folder, file, split)`.
        read_recut: Reads one split of open_flamingo's, from `(folder, questions, annotations, split)`.

    Returns:
        The queries and the support.

    Raises:
        EvaluationError: If each layout lacks a file, or a row is wrong.
    """
    layout, files = find_files(folder, official, _recut_files(split))
    if layout == 0:
        train, asked = files
        found = read(folder, asked, split), read(folder, train, "train")
    else:
        train, train_answers, asked, *answers = files
        found = (
            read_recut(folder, asked, answers[0] if answers else None, split),
            read_recut(folder, train, train_answers, "train"),
        )
    return distinct(*found, file=asked)


def _recut_files(split: str) -> list[str]:
    """Questions and annotations of the support, then those of the split."""
    names = [f"{part}_{rows}_vqa_format.json" for part in ("train", split) for rows in ("questions", "annotations")]
    return names[:3] if split == "test" else names
