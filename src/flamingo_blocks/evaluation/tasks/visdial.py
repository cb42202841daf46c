"""Visual Dialog 1.0: which of a hundred answers fits the next question about an image."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import Ndcg
from flamingo_blocks.evaluation.read_rows import Row, read_list, read_object, refuse_twice
from flamingo_blocks.evaluation.task import Task, TaskReader
from flamingo_blocks.evaluation.tasks.check_items import Placed, check_split, distinct
from flamingo_blocks.evaluation.tasks.files_by_stem import IMAGE_SUFFIXES, FilesByStem

_SPLITS = ("val", "test")
_DENSE = "visdial_1.0_val_dense_annotations.json"
_IMAGE_NAMES = {
    "train": ("COCO_train2014_{:012d}", "COCO_val2014_{:012d}"),  # the file does not tell which of them
    "val": ("VisualDialog_val2018_{:012d}",),
    "test": ("VisualDialog_test2018_{:012d}",),
}


def read_visdial(folder: Path, split: str) -> Task:
    """Read Visual Dialog: one query for each image, at the round whose options were all judged.

    The paper asks a model for one round of a dialogue with all rounds before it in the prompt. A query has those
    before in `turns`, its question in `texts["question"]`, and the options in `candidates`. A shot is the whole
    dialogue of a training image, in the same form: nine rounds in `turns`, the tenth as question and answer.

    Args:
        folder: Holds the files of Visual Dialog 1.0.
        split: `"val"`; or `"test"`, whose queries are the last rounds, without relevance and without an answer.

    Returns:
        The task. `facts` of its queries: `round_id`, from 1; of `"val"`, `relevance` of each option as well, and
        `gt_index`, the place of what was answered.

    Raises:
        EvaluationError: If files are missing or wrong.

    Source:
        Das et al., Visual Dialog (arXiv 1611.08669), version 1.0; for the shots Flamingo (arXiv 2204.14198), D.1.
    """
    check_split("visdial", split, _SPLITS)
    images = _Images(folder)
    dialogues = _Dialogues(folder / f"visdial_1.0_{split}.json")
    train = _Dialogues(folder / "visdial_1.0_train.json")
    queries, support = distinct(
        _judged(dialogues, folder / _DENSE, images) if split == "val" else _last(dialogues, images),
        [(_whole(train, row, images), row.place) for row in train.rows],
        file=dialogues.file,
    )
    return Task(
        name="visdial",
        kind="dialogue",
        answering="closed",
        metrics=(Ndcg(),),
        queries=queries,
        support=support,
    )


class _Images:
    def __init__(self, folder: Path) -> None:
        self._folder, self._files = folder, FilesByStem(folder, IMAGE_SUFFIXES)

    def image(self, split: str, image_id: int) -> ImageSegment:
        stems = [name.format(image_id) for name in _IMAGE_NAMES[split]]
        found = next(((stem, path) for stem in stems if (path := self._files.find(stem))), None)
        stem, path = found or (stems[0], self._folder / f"{stems[0]}.jpg")
        return ImageSegment(url=f"{stem}.jpg", data=path)


class _Dialogues:
    """A file of dialogues, with the questions and answers that its rounds point to."""

    def __init__(self, file: Path) -> None:
        whole = read_object(file)
        self.split = whole.take("split", str)
        if self.split not in _IMAGE_NAMES:
            raise whole.wrong("split", f"wanted one of {', '.join(map(repr, _IMAGE_NAMES))}")
        data = Row(whole.take("data", dict), f"{file}, data")
        self.file, self.rows = file, data.rows("dialogs")
        self._texts = {"question": data.texts("questions"), "answer": data.texts("answers")}
        refuse_twice(((str(row.take("image_id", int)), row.place) for row in self.rows), "image_id")

    def rounds(self, row: Row) -> list[Row]:
        rounds = row.rows("dialog")
        if not rounds:
            raise row.wrong("dialog", "wanted one round at least")
        return rounds

    def text(self, row: Row, key: str) -> str:
        texts, place = self._texts[key], row.take(key, int)
        if not 0 <= place < len(texts):
            raise row.wrong(key, f"wanted the place of one of {len(texts)} {key}s, from 0")
        return texts[place]

    def turns(self, rounds: list[Row]) -> tuple[tuple[str, str], ...]:
        return tuple((self.text(row, "question"), self.text(row, "answer")) for row in rounds)

    def options(self, row: Row) -> tuple[str, ...]:
        texts, places = self._texts["answer"], row.take("answer_options", list)
        if not places:
            raise row.wrong("answer_options", "wanted one option at least")
        for number, place in enumerate(places):
            if type(place) is not int or not 0 <= place < len(texts):
                raise EvaluationError(
                    f"{row.place}: answer_options[{number}] is {place!r:.60}, "
                    f"wanted the place of one of {len(texts)} answers, from 0"
                )
        return tuple(texts[place] for place in places)


def _judged(dialogues: _Dialogues, dense: Path, images: _Images) -> list[Placed]:
    judgements = read_list(dense)
    by_image = {row.take("image_id", int): row for row in judgements}
    refuse_twice(((str(row["image_id"]), row.place) for row in judgements), "image_id")
    asked = {row["image_id"] for row in dialogues.rows}
    if apart := sorted(asked ^ by_image.keys()):
        raise EvaluationError(
            f"{dialogues.file} has {len(asked)} dialogues and {dense} judges {len(by_image)}; images that only one of "
            f"them has: {', '.join(map(str, apart[:5]))}{', ..' if len(apart) > 5 else ''}"
        )
    return [(_judged_item(dialogues, row, by_image[row["image_id"]], images), row.place) for row in dialogues.rows]


def _judged_item(dialogues: _Dialogues, row: Row, judged: Row, images: _Images) -> TaskItem:
    rounds, round_id = dialogues.rounds(row), judged.take("round_id", int)
    if not 1 <= round_id <= len(rounds):
        raise judged.wrong("round_id", f"wanted 1 to {len(rounds)}, the rounds of image {row['image_id']}")
    asked = rounds[round_id - 1]
    options, relevance = dialogues.options(asked), judged.take("gt_relevance", list)
    if len(relevance) != len(options):
        raise EvaluationError(
            f"{judged.place}: gt_relevance has {len(relevance)} values, "
            f"wanted one for each of the {len(options)} options of {asked.place}"
        )
    for number, value in enumerate(relevance):
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise EvaluationError(f"{judged.place}: gt_relevance[{number}] is {value!r:.60}, wanted 0 to 1")
    gt_index = asked.take("gt_index", int)
    if not 0 <= gt_index < len(options):
        raise asked.wrong("gt_index", f"wanted the place of one of {len(options)} options, from 0")
    facts = {"relevance": tuple(map(float, relevance)), "gt_index": gt_index}
    return _item(dialogues, row, round_id, images, answers=(options[gt_index],), facts=facts)


def _last(dialogues: _Dialogues, images: _Images) -> list[Placed]:
    return [(_item(dialogues, row, len(dialogues.rounds(row)), images), row.place) for row in dialogues.rows]


def _item(
    dialogues: _Dialogues,
    row: Row,
    round_id: int,
    images: _Images,
    *,
    answers: tuple[str, ...] = (),
    facts: Mapping[str, object] = MappingProxyType({}),
) -> TaskItem:
    rounds, image_id = dialogues.rounds(row), row.take("image_id", int)
    asked = rounds[round_id - 1]
    return TaskItem(
        id=f"{image_id}_{round_id}",
        media=(images.image(dialogues.split, image_id),),
        texts={"caption": row.take("caption", str), "question": dialogues.text(asked, "question")},
        turns=dialogues.turns(rounds[: round_id - 1]),
        answers=answers,
        candidates=dialogues.options(asked),
        facts={"round_id": round_id, **facts},
    )


def _whole(dialogues: _Dialogues, row: Row, images: _Images) -> TaskItem:
    image_id = row.take("image_id", int)
    *before, (question, answer) = dialogues.turns(dialogues.rounds(row))
    return TaskItem(
        id=str(image_id),
        media=(images.image(dialogues.split, image_id),),
        texts={"caption": row.take("caption", str), "question": question},
        turns=tuple(before),
        answers=(answer,),
    )


VISDIAL = TaskReader(
    name="visdial",
    title="VisDial",
    metric="NDCG",
    kind="dialogue",
    answering="closed",
    files={
        "visdial_1.0_{split}.json": "dialogues of the split that is asked",
        "visdial_1.0_train.json": "dialogues for shots",
        _DENSE: "relevance of the options, for the split val",
        "VisualDialog_{split}2018_{image_id:012d}.jpg": "images of val and test",
        "COCO_{train2014,val2014}_{image_id:012d}.jpg": "images of the shots",
    },
    splits=_SPLITS,
    read=read_visdial,
)
