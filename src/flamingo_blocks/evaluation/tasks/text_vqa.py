"""TextVQA: questions whose answers are written in the picture. No reading of the picture is given."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import VqaAccuracy
from flamingo_blocks.evaluation.read_rows import Row, read_object
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split
from flamingo_blocks.evaluation.tasks.either_layout import read_either_layout
from flamingo_blocks.evaluation.tasks.media_files import image_file
from flamingo_blocks.evaluation.tasks.vqa_rows import check_number, pair_rows, ten_answers

SPLITS = ("val", "test")
IMAGES = {"train": "train_images", "val": "train_images", "test": "test_images"}


def read_text_vqa(folder: Path, split: str) -> Task:
    """Read TextVQA, from its official files or from open_flamingo's, which give the same items.

    Args:
        folder: Has `TextVQA_0.5.1_train.json` and that of the split; or `train_questions_vqa_format.json` and its like.
            The images are in `train_images/`, those of `val` too, and in `test_images/`.
        split: `"val"`; or `"test"`, whose answers are not public: its items have none.

    Returns:
        The task. An item is a question; its cluster is the image.

    Raises:
        EvaluationError: If a file is missing or a row is wrong.
    """
    check_split("textvqa", split, SPLITS)
    official = [f"TextVQA_0.5.1_{part}.json" for part in ("train", split)]
    queries, support = read_either_layout(folder, split, official, read=_official, read_recut=_recut)
    metrics = (VqaAccuracy(profile="textvqa"), VqaAccuracy(profile="always"))
    return Task(name="textvqa", kind="question", answering="open", metrics=metrics, queries=queries, support=support)


def _official(folder: Path, file: Path, split: str) -> list[Placed]:
    found = []
    for row in read_object(file).rows("data"):
        answers = () if split == "test" else row.texts("answers")
        if split != "test":
            check_number(row, len(answers))
        found.append((_item(folder, IMAGES[split], row, answers), row.place))
    return found


def _recut(folder: Path, questions: Path, annotations: Path | None, split: str) -> list[Placed]:
    return [
        (_item(folder, IMAGES[split], row, () if answers is None else ten_answers(answers)), row.place)
        for row, answers in pair_rows(questions, annotations)
    ]


def _item(folder: Path, images: str, row: Row, answers: tuple[str, ...]) -> TaskItem:
    image = row.take("image_id", str)
    return TaskItem(
        id=row.text("question_id"),
        media=(image_file(folder, f"{images}/{image}.jpg", url=f"{image}.jpg"),),
        texts={"question": row.take("question", str)},
        answers=answers,
        cluster=image,
    )


TEXTVQA = TaskReader(
    name="textvqa",
    title="TextVQA",
    metric="VQA accuracy (TextVQA)",
    kind="question",
    answering="open",
    files={
        "TextVQA_0.5.1_train.json": (
            "questions and answers of the support; or {train,val}_{questions,annotations}_vqa_format.json"
        ),
        "TextVQA_0.5.1_val.json": "questions and answers of the split; TextVQA_0.5.1_test.json has no answers",
        "train_images/, test_images/": "images: 003a8ae2ef43b901.jpg; those of val are with those of train",
    },
    splits=SPLITS,
    read=read_text_vqa,
)
