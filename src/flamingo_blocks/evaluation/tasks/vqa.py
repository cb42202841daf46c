"""VQAv2 and OK-VQA: questions about images of COCO, in two files for each split."""

from collections.abc import Callable
from pathlib import Path

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import OkVqaAccuracy, StemMap, VqaAccuracy
from flamingo_blocks.evaluation.read_rows import Row
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.media_files import image_file
from flamingo_blocks.evaluation.tasks.task_files import find_files
from flamingo_blocks.evaluation.tasks.vqa_rows import pair_rows, ten_answers

# What the files call each split, and where its images are.
VQAV2_SPLITS = {"val": ("val2014", "val2014"), "test-dev": ("test-dev2015", "test2015"), "test": ("test2015",) * 2}


def read_vqav2(folder: Path, split: str) -> Task:
    """Read VQAv2.

    Args:
        folder: Has the official files of `train2014` and of the split, and the images in `train2014/`, `val2014/` and
            `test2015/`.
        split: `"val"`; or `"test-dev"` or `"test"`, whose answers are not public: their items have none.

    Returns:
        The task. An item is a question; its cluster is the image.

    Raises:
        EvaluationError: If a file is missing, a row is wrong, or questions and annotations do not fit.
    """
    check_split("vqav2", split, tuple(VQAV2_SPLITS))
    part, images = VQAV2_SPLITS[split]
    names = [
        "v2_OpenEnded_mscoco_train2014_questions.json",
        "v2_mscoco_train2014_annotations.json",
        f"v2_OpenEnded_mscoco_{part}_questions.json",
    ]
    if split == "val":
        names.append(f"v2_mscoco_{part}_annotations.json")
    _, (train, train_answers, asked, *answers) = find_files(folder, names)
    queries, support = distinct(
        _read(folder, asked, answers[0] if answers else None, images, _facts),
        _read(folder, train, train_answers, "train2014", _facts),
        file=asked,
    )
    metrics = (VqaAccuracy(profile="official"), VqaAccuracy(profile="always"))
    return Task(name="vqav2", kind="question", answering="open", metrics=metrics, queries=queries, support=support)


def read_okvqa(folder: Path, split: str) -> Task:
    """Read OK-VQA.

    Args:
        folder: Has the official files of `train2014` and `val2014`, and the images in folders of these names.
        split: `"val"`.

    Returns:
        The task. Answers are the stems that count as right; what people wrote is in the facts as `"raw_answers"`.

    Raises:
        EvaluationError: If a file is missing, a row is wrong, or questions and annotations do not fit.
    """
    check_split("okvqa", split, ("val",))
    _, (train, train_answers, asked, answers) = find_files(
        folder,
        [
            "OpenEnded_mscoco_train2014_questions.json",
            "mscoco_train2014_annotations.json",
            "OpenEnded_mscoco_val2014_questions.json",
            "mscoco_val2014_annotations.json",
        ],
    )
    queries, support = distinct(
        _read(folder, asked, answers, "val2014", _raw_answers),
        _read(folder, train, train_answers, "train2014", _raw_answers),
        file=asked,
    )
    pairs = (
        pair for item in (*support, *queries) for pair in zip(item.facts["raw_answers"], item.answers, strict=True)
    )
    metrics = (OkVqaAccuracy(stem_map=StemMap.learn(pairs)),)
    return Task(
        name="okvqa", kind="question", answering="open", metrics=metrics, queries=queries, support=support,
        keep_lists=True,
    )  # fmt: skip


def _read(
    folder: Path, questions: Path, annotations: Path | None, images: str, facts: Callable[[Row], dict[str, object]]
) -> list[Placed]:
    found = []
    seen: dict[int, ImageSegment] = {}  # several questions are about one image
    for question, annotation in pair_rows(questions, annotations):
        number = question.take("image_id", int)
        if number not in seen:
            seen[number] = image_file(folder, f"{images}/COCO_{images}_{number:012d}.jpg")
        item = TaskItem(
            id=question.text("question_id"),
            media=(seen[number],),
            texts={"question": question.take("question", str)},
            answers=() if annotation is None else ten_answers(annotation),
            cluster=str(number),
            facts={} if annotation is None else facts(annotation),
        )
        found.append((item, question.place))
    return found


def _facts(annotation: Row) -> dict[str, object]:
    return {key: annotation.take(key, str) for key in ("question_type", "answer_type")}


def _raw_answers(annotation: Row) -> dict[str, object]:
    return {"raw_answers": ten_answers(annotation, "raw_answer")}


VQAV2 = TaskReader(
    name="vqav2",
    title="VQAv2",
    metric="VQA accuracy (official)",
    kind="question",
    answering="open",
    files={
        "v2_OpenEnded_mscoco_train2014_questions.json": "questions of the support",
        "v2_mscoco_train2014_annotations.json": "answers of the support",
        "v2_OpenEnded_mscoco_val2014_questions.json": "questions of the split; test-dev2015 and test2015 likewise",
        "v2_mscoco_val2014_annotations.json": "answers of the split; the test splits have none",
        "train2014/, val2014/, test2015/": "images: COCO_val2014_000000000042.jpg",
    },
    splits=tuple(VQAV2_SPLITS),
    read=read_vqav2,
)
OKVQA = TaskReader(
    name="okvqa",
    title="OK-VQA",
    metric="VQA accuracy (of stems)",
    kind="question",
    answering="open",
    files={
        "OpenEnded_mscoco_train2014_questions.json": "questions of the support",
        "mscoco_train2014_annotations.json": "answers of the support",
        "OpenEnded_mscoco_val2014_questions.json": "questions of the split",
        "mscoco_val2014_annotations.json": "answers of the split",
        "train2014/, val2014/": "images: COCO_val2014_000000000042.jpg",
    },
    splits=("val",),
    read=read_okvqa,
)
