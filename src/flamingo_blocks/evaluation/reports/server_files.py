"""Answers as the servers and scripts that score a task take them."""

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import candidate_scores, normalise_vqa
from flamingo_blocks.evaluation.prediction import Prediction

Row = dict[str, Any] | list[float]


def _caption(item: TaskItem, said: Prediction | None) -> Row:
    return {"image_id": int(item.id), "caption": "" if said is None else said.answer}


def _question(item: TaskItem, said: Prediction | None) -> Row:
    return {"question_id": int(item.id), "answer": "" if said is None else normalise_vqa(said.answer)}


def _photo(item: TaskItem, said: Prediction | None) -> Row:
    return {"image": item.id, "answer": "" if said is None else said.answer}


def _dialogue(item: TaskItem, said: Prediction | None) -> Row:
    image, _, turn = item.id.rpartition("_")
    if said is None or len(said.log_probs) != len(item.candidates):
        raise EvaluationError(f"query {item.id!r} of visdial has no log-probability for each option; ask all queries")
    order = sorted(range(len(said.log_probs)), key=lambda place: -said.log_probs[place])
    ranks = {place: rank for rank, place in enumerate(order, start=1)}
    return {"image_id": int(image), "round_id": int(turn), "ranks": [ranks[place] for place in range(len(order))]}


def _clip(item: TaskItem, said: Prediction | None) -> Row:
    if said is None:
        raise EvaluationError(
            f"query {item.id!r} of rareact was not asked, and the matrix has a row for each clip; ask all of its file"
        )
    return candidate_scores(said, number=len(said.log_probs))


SERVER_FORMATS: Mapping[str, Callable[[TaskItem, Prediction | None], Row]] = MappingProxyType(
    {"coco": _caption, "visdial": _dialogue, "vizwiz": _photo, "rareact": _clip}
    | dict.fromkeys(("vqav2", "okvqa", "textvqa"), _question)
)


def write_server_file(
    file: str | os.PathLike[str], task: str, items: Sequence[TaskItem], predictions: Sequence[Prediction]
) -> None:
    """Write the answers of one cell as the server or the script that scores its task takes them.

    COCO's server wants a caption for each image; that of VQAv2 an answer for each question of the whole split, those
    that were not asked as "", normalised as its own script does; that of VizWiz an answer for each image; that of
    VisDial the rank of each option, 1 for the likeliest. These files are JSON. RareAct's script wants a matrix in the
    format of numpy: a row for each clip of `rareact.csv`, in its order, with the log-probability of each class, by
    `class_id`.

    Args:
        file: Where to; it is there whole or not at all.
        task: Name of the task, one of `SERVER_FORMATS`.
        items: All queries of the split, asked or not.
        predictions: The answers of one number of shots, seed and control.

    Raises:
        EvaluationError: If the task has no such format, predictions are of several cells, or are not of the task's
            queries; or a query of VisDial or RareAct has no log-probabilities of all that could be answered.
        MissingDependencyError: If the task is RareAct, and numpy is not installed.

    Example:
        >>> from pathlib import Path
        >>> items = [TaskItem(id=str(number), media=()) for number in (42000, 42001)]
        >>> said = Prediction(task="vqav2", id="42000", shots=4, seed=0, answer="Two dogs.")
        >>> write_server_file("answers.json", "vqav2", items, [said])
        >>> Path("answers.json").read_text()
        '[{"question_id": 42000, "answer": "2 dogs"}, {"question_id": 42001, "answer": ""}]'

    Source:
        Of RareAct: `compute_score.py` of github.com/antoine77340/RareAct, which loads the matrix by `numpy.load`.
    """
    if task not in SERVER_FORMATS:
        raise EvaluationError(f"task is {task!r}, of which no server is known; wanted of {', '.join(SERVER_FORMATS)}")
    if len(cells := {one.key[:4] for one in predictions}) > 1:
        raise EvaluationError(f"predictions are of {len(cells)} cells, such as {sorted(cells)[:2]}; give those of one")
    said = {one.id: one for one in predictions}
    if unknown := sorted(said.keys() - {item.id for item in items}):
        raise EvaluationError(f"predictions has {unknown[0]!r}, which is no query among items; give the split of then")
    rows = [SERVER_FORMATS[task](item, said.get(item.id)) for item in items]
    content = _matrix(items, rows) if task == "rareact" else json.dumps(rows, ensure_ascii=False).encode()
    with atomic_file(Path(file)) as opened:
        opened.write(content)


def _matrix(items: Sequence[TaskItem], rows: Sequence[Row]) -> bytes:
    """The rows as a file of numpy, a column for each class."""
    np = require("numpy", used_by="write_server_file", extra="data")
    classes = 1 + max(item.facts["class_id"] for item in items)
    for item, row in zip(items, rows, strict=True):
        if len(row) != classes:
            raise EvaluationError(
                f"query {item.id!r} of rareact has log-probabilities of {len(row)} classes, wanted {classes}; give the "
                "files of then"
            )
    opened = io.BytesIO()
    np.save(opened, np.array(rows, dtype=np.float64), allow_pickle=False)
    return opened.getvalue()
