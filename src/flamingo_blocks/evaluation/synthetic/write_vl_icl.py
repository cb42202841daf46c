"""Tasks of drawn pictures in the files of VL-ICL Bench, for its own code and for others that read them."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic.operator_induction import OPERATORS
from flamingo_blocks.evaluation.synthetic.read_vl_icl import QUERY_FILE, SUPPORT_FILE
from flamingo_blocks.evaluation.task import Task
from flamingo_blocks.vision.image_preprocess import to_rgb

_CALLED: Mapping[str, str] = {
    "binding": "open_mi",
    "matching": "matching_mi",
    "operator_induction_interleaved": "operator_induction_interleaved",
    "operator_induction": "operator_induction",
    "counting": "clevr",
}


def write_vl_icl(folder: Path | str, task: Task) -> Path:
    """Write a task of `synthetic_task` in the layout of VL-ICL Bench.

    Args:
        folder: Gets a folder with the name that the benchmark has for such a task: `open_mi`, `matching_mi`,
            `operator_induction`, `operator_induction_interleaved` or `clevr`.
        task: The task. The rule of a pair is written as `rule`, which the benchmark does not know: its pairs have one
            rule.

    Returns:
        The folder of the task.

    Raises:
        ValueError: If it is no task of `synthetic_task`.
        MissingDependencyError: If Pillow is not installed.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.evaluation.synthetic import read_vl_icl, synthetic_task
        >>> task = synthetic_task("counting", queries=3, support=4, size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = write_vl_icl(folder, task)
        ...     again = read_vl_icl(folder, "clevr")
        >>> written.name, [item.answers for item in again.queries] == [item.answers for item in task.queries]
        ('clevr', True)
    """
    kind = next((kind for kind in _CALLED if task.name.startswith(kind)), None)
    if kind is None:
        raise ValueError(f"task is {task.name!r}, wanted one of synthetic_task: {', '.join(_CALLED)}")
    called = _CALLED[kind]
    home = Path(folder) / called
    pictures = _Pictures(Path(folder), called)
    if kind == "binding":
        queries, support = [_binding(query, pictures) for query in task.queries], []
    elif kind == "matching":
        queries = [_row(query, pictures, "query", rule=query.facts["rule"]) for query in task.queries]
        support = _pairs(task.queries, pictures)
    elif kind.startswith("operator_induction"):
        queries = [
            {**_row(query, pictures, "query", operator=query.facts["operator"]), "answer": int(query.answers[0])}
            for query in task.queries
        ]
        support = _expressions(task.queries, pictures)
    else:
        queries = [_number(_row(query, pictures, "query")) for query in task.queries]
        support = [_number(_row(shot, pictures, "support")) for shot in task.support]
    for name, rows in ((QUERY_FILE, queries), (SUPPORT_FILE, support)):
        home.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(json.dumps(rows, indent=1) + "\n")
    return home


class _Pictures:
    """Writes each picture once, and tells where it is, from the folder of all tasks on."""

    def __init__(self, root: Path, called: str) -> None:
        self.root, self.called = root, called
        self._paths: dict[str, str] = {}
        self._counts: Counter[str] = Counter()

    def paths(self, media: Iterable[Any], side: str) -> list[str]:
        return [self._path(segment, side) for segment in media]

    def _path(self, segment: ImageSegment, side: str) -> str:
        url = segment.url or ""
        if url not in self._paths:
            path = f"{self.called}/{side}/{self._counts[side]}.png"
            self._counts[side] += 1
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            _write_png(segment.data, self.root / path)
            self._paths[url] = path
        return self._paths[url]


def _write_png(data: Any, file: Path) -> None:
    image = require("PIL.Image", used_by="write_vl_icl", extra="vision")
    pixels = (to_rgb(data) * 255).round().byte()
    height, width = pixels.shape[1:]
    image.frombytes("RGB", (width, height), bytes(pixels.permute(1, 2, 0).flatten().tolist())).save(file)


def _row(item: TaskItem, pictures: _Pictures, side: str, **more: Any) -> dict[str, Any]:
    return {
        "id": item.id,
        "image": pictures.paths(item.media, side),
        "question": item.texts["question"],
        "answer": item.answers[0],
        **more,
    }


def _number(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answer": int(row["answer"])}


def _binding(query: TaskItem, pictures: _Pictures) -> dict[str, Any]:
    named: dict[str, list[str]] = {name: [] for name in sorted(query.facts["names"])}
    for shot in query.support or ():
        named[shot.answers[0]] += pictures.paths(shot.media, "support")
    things = query.facts["things"]
    support = {
        name: {"images": paths, "caption": f"This is a {' '.join(things[name])}."} for name, paths in named.items()
    }
    return _row(query, pictures, "query", classes=list(named), support=support)


def _pairs(queries: Iterable[TaskItem], pictures: _Pictures) -> list[dict[str, Any]]:
    """Every pair of the support once, in the order of its id."""
    found: dict[str, dict[str, Any]] = {}
    for shot in _shots(queries):
        base, _, answer = shot.id.rpartition("-")
        row = found.setdefault(base, {"id": base, "rule": shot.facts["rule"]})
        kind = "same" if answer == "yes" else "diff"
        row[kind] = {key: value for key, value in _row(shot, pictures, "support").items() if key != "id"}
    return list(found.values())


def _expressions(queries: Iterable[TaskItem], pictures: _Pictures) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for shot in _shots(queries):
        results = shot.facts["results"]
        row = {**_row(shot, pictures, "support"), "id": shot.facts["row"]}
        found.setdefault(row["id"], {**row, "answer": [results[operator] for operator in OPERATORS]})
    return list(found.values())


def _shots(queries: Iterable[TaskItem]) -> list[TaskItem]:
    """All shots once, in an order that does not hang on the queries."""
    shots = {shot.id: shot for query in queries for shot in query.support or ()}
    return [shots[id_] for id_ in sorted(shots, key=lambda id_: (len(id_), id_))]
