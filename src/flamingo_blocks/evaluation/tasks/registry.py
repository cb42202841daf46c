"""Every task by its short name."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.coco import COCO
from flamingo_blocks.evaluation.tasks.flickr30k import FLICKR30K
from flamingo_blocks.evaluation.tasks.hateful_memes import HATEFUL_MEMES
from flamingo_blocks.evaluation.tasks.imagenet import IMAGENET
from flamingo_blocks.evaluation.tasks.ivqa import IVQA
from flamingo_blocks.evaluation.tasks.kinetics import KINETICS700
from flamingo_blocks.evaluation.tasks.next_qa import NEXT_QA
from flamingo_blocks.evaluation.tasks.rareact import RAREACT
from flamingo_blocks.evaluation.tasks.star import STAR
from flamingo_blocks.evaluation.tasks.task_files import held
from flamingo_blocks.evaluation.tasks.text_vqa import TEXTVQA
from flamingo_blocks.evaluation.tasks.vatex import VATEX
from flamingo_blocks.evaluation.tasks.video_qa import MSRVTT_QA, MSVD_QA
from flamingo_blocks.evaluation.tasks.visdial import VISDIAL
from flamingo_blocks.evaluation.tasks.vizwiz import VIZWIZ
from flamingo_blocks.evaluation.tasks.vqa import OKVQA, VQAV2
from flamingo_blocks.evaluation.tasks.youcook2 import YOUCOOK2

_READERS = (
    COCO, FLICKR30K, VQAV2, OKVQA, VIZWIZ, TEXTVQA, VISDIAL, HATEFUL_MEMES, VATEX, MSVD_QA, MSRVTT_QA, YOUCOOK2, IVQA,
    NEXT_QA, STAR, RAREACT, IMAGENET, KINETICS700,
)  # fmt: skip
TASKS: Mapping[str, TaskReader] = MappingProxyType({reader.name: reader for reader in _READERS})


def find_task(name: str) -> TaskReader:
    """The reader of a task.

    Args:
        name: Short name, as in `TASKS`.

    Raises:
        EvaluationError: If there is none; it lists the names, and says which is nearest.

    Example:
        >>> find_task("okvqa").title
        'OK-VQA'
        >>> find_task("vqa2")
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: task is 'vqa2', did you mean 'vqav2'? The tasks are coco, flickr30k, \
vqav2, okvqa, vizwiz, textvqa, visdial, hateful_memes, vatex, msvd_qa, msrvtt_qa, youcook2, ivqa, next_qa, star, \
rareact, imagenet, kinetics700
    """
    if name in TASKS:
        return TASKS[name]
    near = nearest_names(name, TASKS)
    meant = f", did you mean {near[0]!r}? The" if near else "; the"
    raise EvaluationError(f"task is {name!r}{meant} tasks are {', '.join(TASKS)}")


def nearest_names(name: str, known: Iterable[str]) -> list[str]:
    """What may have been meant by a name that is none of them: one, or none.

    Args:
        name: As it was typed.
        known: The names that there are.
    """
    return difflib.get_close_matches(name.lower().replace("-", "_"), known, n=1)


def read_task(name: str, data: Path, split: str | None = None) -> Task:
    """Read a task from its official files.

    Args:
        name: Short name, as in `TASKS`.
        data: Folder that has a folder of this name, with the files in it.
        split: Which split is asked; the first of the task's splits if None.

    Returns:
        The task. No image is opened: `missing_media` tells which are not there.

    Raises:
        EvaluationError: If there is no such task or split, files are missing, or a row of one is wrong.

    Example:
        >>> read_task("hateful_memes", Path("data"))
        Traceback (most recent call last):
        flamingo_blocks.errors.EvaluationError: data/hateful_memes, where the files of Hateful Memes are looked for: \
the folder does not exist. It takes
          train.jsonl      the support, with labels
          test_seen.jsonl  the split, also as test.jsonl; dev_seen, test_unseen and dev_unseen likewise
          img/             images: 42953.png
    """
    reader = find_task(name)
    folder = Path(data) / name
    if not folder.is_dir():
        lines = "\n".join(_files(reader))
        place = f"{folder}, where the files of {reader.title} are looked for"
        raise EvaluationError(f"{place}: {held(folder)}. It takes\n{lines}")
    return reader.read(folder, reader.splits[0] if split is None else split)


def describe_tasks() -> str:
    """All tasks with their titles, metrics and splits, and below each the files that it takes, as a table of text.

    Example:
        >>> for line in describe_tasks().splitlines()[:3]:
        ...     print(line)
        name           title          metric                                         answers  splits
        coco           COCO captions  CIDEr-D                                        open     test, val
          dataset_coco.json     Karpathy's splits, with the captions
    """
    head = ("name", "title", "metric", "answers", "splits")
    rows = [(task.name, task.title, task.metric, task.answering, ", ".join(task.splits)) for task in TASKS.values()]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row, reader in zip((head, *rows), (None, *TASKS.values()), strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join(cells).rstrip())
        lines += [] if reader is None else _files(reader)
    return "\n".join(lines)


def _files(reader: TaskReader) -> list[str]:
    width = max(map(len, reader.files))
    return [f"  {name.ljust(width)}  {what}" for name, what in reader.files.items()]
