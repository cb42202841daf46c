"""What `results.json` holds, checked value by value, when it is written as when it is read."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.reports.plain_json import plain
from flamingo_blocks.evaluation.reports.prediction_lines import is_number, is_whole, told
from flamingo_blocks.evaluation.reports.summarise import summarise
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.score import Score

SCHEMA_VERSION = 1
TOP = ("schema_version", "run", "tasks", "summary", "cells")
CELL = ("task", "shots", "seed", "control", "scores", "interval", "difference", "counts", "rates", "facts")
SCORE = ("variant", "value", "counts", "parts", "per_item")


def result_values(result: EvaluationResult) -> dict[str, Any]:
    """A result as plain values in a fixed order: those of a name of ours as it is listed here, all others sorted.

    Args:
        result: What an evaluation found.

    Raises:
        EvaluationError: Naming the cell and the value that the file could not hold.
    """
    cells = sorted(result.cells, key=lambda cell: (cell.task, cell.control, cell.shots, cell.seed))
    values = {"run": result.run, "tasks": result.tasks, "cells": [_cell_values(cell) for cell in cells]}
    checked = result_of({"schema_version": SCHEMA_VERSION, "summary": None, **values}, "result")
    return {
        "schema_version": SCHEMA_VERSION,
        "run": plain(result.run, "run"),
        "tasks": plain(result.tasks, "tasks"),
        "summary": summary_values(checked),
        "cells": [_cell_values(cell) for cell in checked.cells],
    }


def summary_values(result: EvaluationResult) -> list[dict[str, Any]]:
    """Means and spreads over seeds, for readers of the file; they follow from the cells."""
    return [plain(asdict(summary), "summary") for summary in summarise(result)]


def result_of(values: Any, place: str) -> EvaluationResult:
    """A result of values that are checked one by one.

    Args:
        values: As `result_values` gives them; a summary that is None is not looked at.
        place: What an error calls them.

    Raises:
        EvaluationError: Naming the place, the key, and what was found.
    """
    _object(values, place)
    if values.get("schema_version") != SCHEMA_VERSION:
        found = told(values.get("schema_version"))
        raise EvaluationError(f"{place}: schema_version is {found}, this release reads {SCHEMA_VERSION}")
    _keys(values, TOP, place)
    run, tasks = _map(values, "run", place), _map(values, "tasks", place)
    for name, task in tasks.items():
        _object(task, f"{place}: tasks.{name}")
    cells = tuple(_cell(each, f"{place}: cells[{at}]") for at, each in enumerate(_list(values, "cells", place)))
    seen: dict[tuple[Any, ...], int] = {}
    for at, cell in enumerate(cells):
        if cell.task not in tasks:
            known = ", ".join(tasks) or "none"
            raise EvaluationError(f"{place}: cells[{at}] is of task {cell.task!r}, which tasks lacks; it has {known}")
        key = (cell.task, cell.shots, cell.seed, cell.control)
        if (before := seen.setdefault(key, at)) != at:
            raise EvaluationError(f"{place}: cells[{at}] is of {key}, as cells[{before}] is; each may come once")
    result = EvaluationResult(cells=cells, run=run, tasks=tasks)
    if values["summary"] is not None and values["summary"] != summary_values(result):
        raise EvaluationError(f"{place}: summary does not follow from cells; one of them was changed, write it again")
    return result


def _cell_values(cell: Cell) -> dict[str, Any]:
    values = {name: getattr(cell, name) for name in CELL}
    values["scores"] = [_score_values(score) for score in cell.scores]
    for name in ("interval", "difference"):
        values[name] = None if values[name] is None else list(values[name])
    return values | {name: _sorted(values[name]) for name in ("counts", "rates", "facts")}


def _score_values(score: Score) -> dict[str, Any]:
    values = {name: getattr(score, name) for name in SCORE}
    return values | {"per_item": list(score.per_item)} | {name: _sorted(values[name]) for name in ("counts", "parts")}


def _sorted(values: Any) -> Any:
    return {key: values[key] for key in sorted(values, key=str)} if isinstance(values, Mapping) else values


def _cell(values: Any, place: str) -> Cell:
    _object(values, place)
    _keys(values, CELL, place)
    named = f"{place} ({values['task']}, {values['shots']} shots, seed {values['seed']}, {values['control']})"
    scores = _list(values, "scores", named)
    if not scores:
        raise EvaluationError(f"{named}: scores is empty, wanted the headline at least")
    interval, difference = _numbers(values, "interval", 2, named), _numbers(values, "difference", 3, named)
    for ends, name in ((interval, "interval"), (difference and difference[1:], "difference")):
        if ends and ends[0] > ends[1]:
            raise EvaluationError(f"{named}: {name} goes from {ends[0]} to {ends[1]}, wanted the lower end first")
    return Cell(
        task=_text(values, "task", named), shots=_whole(values, "shots", named, least=0),
        seed=_whole(values, "seed", named), control=_text(values, "control", named),
        scores=tuple(_score(each, f"{named}: scores[{at}]") for at, each in enumerate(scores)),
        interval=None if interval is None else (interval[0], interval[1]),
        difference=None if difference is None else (difference[0], difference[1], difference[2]),
        counts=_counts(values, named), rates=_rates(values, "rates", named), facts=_map(values, "facts", named),
    )  # fmt: skip


def _score(values: Any, place: str) -> Score:
    _object(values, place)
    _keys(values, SCORE, place)
    value = values["value"]
    per_item = _list(values, "per_item", place)
    for at, each in enumerate(per_item):
        _want(each is None or is_number(each), f"per_item[{at}]", each, "a finite number or null", place)
    _want(value is None or is_number(value), "value", value, "a finite number or null", place)
    return Score(
        variant=_text(values, "variant", place), value=None if value is None else _float(value),
        per_item=tuple(None if each is None else _float(each) for each in per_item),
        counts=_counts(values, place), parts=_rates(values, "parts", place),
    )  # fmt: skip


def _counts(values: dict[str, Any], place: str) -> dict[str, int]:
    found = _map(values, "counts", place)
    for key, value in found.items():
        _want(is_whole(value) and value >= 0, f"counts.{key}", value, "a whole number, 0 or more", place)
    return found


def _rates(values: dict[str, Any], name: str, place: str) -> dict[str, float]:
    found = _map(values, name, place)
    for key, value in found.items():
        _want(is_number(value), f"{name}.{key}", value, "a finite number", place)
    return {key: _float(value) for key, value in found.items()}


def _numbers(values: dict[str, Any], name: str, count: int, place: str) -> list[float] | None:
    found = values[name]
    if found is None:
        return None
    fits = isinstance(found, list) and len(found) == count and all(map(is_number, found))
    _want(fits, name, found, f"{count} finite numbers or null", place)
    return [_float(each) for each in found]


def _float(value: float) -> float:
    return float(value) + 0.0  # -0.0 equals 0.0, and equal results are equal files


def _whole(values: dict[str, Any], name: str, place: str, *, least: int | None = None) -> int:
    found = values[name]
    wanted = "a whole number" if least is None else f"a whole number, {least} or more"
    _want(is_whole(found) and (least is None or found >= least), name, found, wanted, place)
    return int(found)


def _text(values: dict[str, Any], name: str, place: str) -> str:
    _want(isinstance(values[name], str), name, values[name], "a text", place)
    return str(values[name])


def _list(values: dict[str, Any], name: str, place: str) -> list[Any]:
    _want(isinstance(values[name], list), name, values[name], "a list", place)
    return list(values[name])


def _map(values: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    _want(isinstance(values[name], Mapping), name, values[name], "an object", place)
    return dict(plain(values[name], f"{place}: {name}"))


def _object(value: Any, place: str) -> None:
    if not isinstance(value, Mapping):
        raise EvaluationError(f"{place}: is {told(value)}, wanted an object")


def _keys(values: Mapping[str, Any], names: tuple[str, ...], place: str) -> None:
    if missing := [name for name in names if name not in values]:
        raise EvaluationError(f"{place}: has no {', '.join(map(repr, missing))}")
    if unknown := [name for name in values if name not in names]:
        raise EvaluationError(f"{place}: has {unknown[0]!r}, wanted {', '.join(names)} and no other")


def _want(fits: bool, name: str, value: Any, wanted: str, place: str) -> None:  # noqa: FBT001 - a check
    if not fits:
        raise EvaluationError(f"{place}: {name} is {told(value)}, wanted {wanted}")
