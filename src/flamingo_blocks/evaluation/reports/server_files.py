"""Answers as the servers of tasks take them, for splits whose answers are theirs alone."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import normalise_vqa
from flamingo_blocks.evaluation.prediction import Prediction

Row = dict[str, Any]


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


SERVER_FORMATS: Mapping[str, Callable[[TaskItem, Prediction | None], Row]] = MappingProxyType(
    {"coco": _caption, "visdial": _dialogue, "vizwiz": _photo} | dict.fromkeys(("vqav2", "okvqa", "textvqa"), _question)
)


def write_server_file(
    file: str | os.PathLike[str], task: str, items: Sequence[TaskItem], predictions: Sequence[Prediction]
) -> None:
    """Write the answers of one cell as the server of its task takes them.

    COCO's server wants a caption for each image; that of VQAv2 an answer for each question of the whole split, those
    that were not asked as "", normalised as its own script does; that of VizWiz an answer for each image; that of
    VisDial the rank of each option, 1 for the likeliest.

    Args:
        file: Where to; it is there whole or not at all.
        task: Name of the task, one of `SERVER_FORMATS`.
        items: All queries of the split, asked or not.
        predictions: The answers of one number of shots, seed and control.

    Raises:
        EvaluationError: If the task has no such format, predictions are of several cells, or are not of the task's
            queries.

    Example:
        >>> from pathlib import Path
        >>> items = [TaskItem(id=str(number), media=()) for number in (42000, 42001)]
        >>> said = Prediction(task="vqav2", id="42000", shots=4, seed=0, answer="Two dogs.")
        >>> write_server_file("answers.json", "vqav2", items, [said])
        >>> Path("answers.json").read_text()
        '[{"question_id": 42000, "answer": "2 dogs"}, {"question_id": 42001, "answer": ""}]'
    """
    if task not in SERVER_FORMATS:
        raise EvaluationError(f"task is {task!r}, of which no server is known; wanted of {', '.join(SERVER_FORMATS)}")
    if len(cells := {one.key[:4] for one in predictions}) > 1:
        raise EvaluationError(f"predictions are of {len(cells)} cells, such as {sorted(cells)[:2]}; give those of one")
    said = {one.id: one for one in predictions}
    if unknown := sorted(said.keys() - {item.id for item in items}):
        raise EvaluationError(f"predictions has {unknown[0]!r}, which is no query among items; give the split of then")
    rows = [SERVER_FORMATS[task](item, said.get(item.id)) for item in items]
    with atomic_file(Path(file)) as opened:
        opened.write(json.dumps(rows, ensure_ascii=False).encode())
