"""VizWiz: questions of blind people about pictures that they took, many of which cannot be answered."""

from pathlib import Path

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import VqaAccuracy
from flamingo_blocks.evaluation.read_rows import Row, read_list
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split
from flamingo_blocks.evaluation.tasks.either_layout import read_either_layout
from flamingo_blocks.evaluation.tasks.media_files import image_file
from flamingo_blocks.evaluation.tasks.vqa_rows import pair_rows, ten_answers

SPLITS = ("val", "test")


def read_vizwiz(folder: Path, split: str) -> Task:
    """Read VizWiz, from its official files or from open_flamingo's, which give the same items.

    Args:
        folder: Has `train.json` and `val.json` or `test.json`; or `train_questions_vqa_format.json` and its like. The
            images are in `train/`, `val/` and `test/`.
        split: `"val"`; or `"test"`, whose answers are not public: its items have none.

    Returns:
        The task. The id of an item is the name of its image: the numbers of open_flamingo's files start anew in each.

    Raises:
        EvaluationError: If a file is missing or a row is wrong.
    """
    check_split("vizwiz", split, SPLITS)
    official = ["train.json", f"{split}.json"]
    queries, support = read_either_layout(folder, split, official, read=_official, read_recut=_recut)
    metrics = (VqaAccuracy(profile="vizwiz"), VqaAccuracy(profile="always"))
    return Task(name="vizwiz", kind="question", answering="open", metrics=metrics, queries=queries, support=support)


def _official(folder: Path, file: Path, split: str) -> list[Placed]:
    found = []
    for row in read_list(file):
        answers = None if split == "test" else row
        item = _item(folder, f"{split}/{row.take('image', str)}", row, answers, "answer_type")
        found.append((item, row.place))
    return found


def _recut(folder: Path, questions: Path, annotations: Path | None, split: str) -> list[Placed]:
    found = []
    for row, answers in pair_rows(questions, annotations):
        item = _item(folder, f"{split}/{row.take('image_id', str)}", row, answers, "question_type")
        found.append((item, row.place))
    return found


def _item(folder: Path, file: str, row: Row, answers: Row | None, kind: str) -> TaskItem:
    name = file.partition("/")[2]
    return TaskItem(
        id=name,
        media=(image_file(folder, file, url=name),),
        texts={"question": row.take("question", str)},
        answers=() if answers is None else ten_answers(answers),
        cluster=name,
        facts={} if answers is None else {"answer_type": answers.take(kind, str)},
    )


VIZWIZ = TaskReader(
    name="vizwiz",
    title="VizWiz",
    metric="VQA accuracy (VizWiz)",
    kind="question",
    answering="open",
    files={
        "train.json": "questions and answers of the support; or {train,val}_{questions,annotations}_vqa_format.json",
        "val.json": "questions and answers of the split; test.json has no answers",
        "train/, val/, test/": "images: VizWiz_val_00000000.jpg",
    },
    splits=SPLITS,
    read=read_vizwiz,
)
