"""Hateful Memes: whether a picture and the words on it are hateful together."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import RocAuc
from flamingo_blocks.evaluation.read_rows import Row, read_lines
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.media_files import image_file
from flamingo_blocks.evaluation.tasks.task_files import find_files

SPLITS = ("test_seen", "dev_seen", "test_unseen", "dev_unseen")
CANDIDATES = ("yes", "no")


def read_hateful_memes(folder: Path, split: str) -> Task:
    """Read Hateful Memes.

    Args:
        folder: Has `train.jsonl` and the file of the split, and the images in `img/`. What is `test_seen.jsonl` and
            `dev_seen.jsonl` since the end of the contest was `test.jsonl` and `dev.jsonl` before: either will do.
        split: `"test_seen"`, `"dev_seen"`, `"test_unseen"` or `"dev_unseen"`.

    Returns:
        The task. Each item is answered `"yes"` or `"no"`; its label stands in the facts, the words in the texts as
        `"ocr"`. Where no row of the split has a label, as in the first `test.jsonl`, its items have no answers.

    Raises:
        EvaluationError: If a file is missing, a row is wrong, or some rows have a label and others have none.
    """
    check_split("hateful_memes", split, SPLITS)
    layouts = [["train.jsonl", f"{split}.jsonl"]]
    if split.endswith("_seen"):
        layouts.append(["train.jsonl", f"{split.removesuffix('_seen')}.jsonl"])
    _, (train, asked) = find_files(folder, *layouts)
    rows = read_lines(asked)
    labelled = any("label" in row for row in rows) or split.startswith("dev")
    queries, support = distinct(
        _items(folder, rows, labelled=labelled), _items(folder, read_lines(train), labelled=True), file=asked
    )
    return Task(
        name="hateful_memes",
        kind="memes",
        answering="closed",
        metrics=(RocAuc(),),
        queries=queries,
        support=support,
        candidates=CANDIDATES,
        classes=_answer,
    )


def _items(folder: Path, rows: list[Row], *, labelled: bool) -> list[Placed]:
    found = []
    for row in rows:
        image = row.take("img", str)
        facts = {"label": _label(row)} if labelled else {}
        item = TaskItem(
            id=row.text("id"),
            media=(image_file(folder, image),),
            texts={"ocr": row.take("text", str)},
            answers=tuple("yes" if label else "no" for label in facts.values()),
            cluster=image,
            facts=facts,
        )
        found.append((item, row.place))
    return found


def _label(row: Row) -> int:
    label = row.take("label", int)
    if label not in (0, 1):
        raise row.wrong("label", "wanted 0, or 1 for a hateful one")
    return label


def _answer(item: TaskItem) -> str:
    return item.answers[0]


HATEFUL_MEMES = TaskReader(
    name="hateful_memes",
    title="Hateful Memes",
    metric="ROC AUC",
    kind="memes",
    answering="closed",
    files={
        "train.jsonl": "the support, with labels",
        "test_seen.jsonl": "the split, also as test.jsonl; dev_seen, test_unseen and dev_unseen likewise",
        "img/": "images: 42953.png",
    },
    splits=SPLITS,
    read=read_hateful_memes,
)
