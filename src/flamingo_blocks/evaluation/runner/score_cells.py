"""From predictions to scores: cells with intervals, baselines, and differences to each control."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from flamingo_blocks.evaluation.controls import BASELINES, baseline_predictions, copy_rates, find_control
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import metric_difference, metric_interval
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.prompts import demo_answer
from flamingo_blocks.evaluation.results import Cell
from flamingo_blocks.evaluation.runner.prepare import PreparedTask
from flamingo_blocks.evaluation.task import Task

CellKey = tuple[str, int, int, str]


def score_cells(prepared: PreparedTask, predictions: Iterable[Prediction], *, bootstrap: int = 1000) -> list[Cell]:
    """The cells of one task.

    Args:
        prepared: The task with the queries that were asked.
        predictions: All that was answered to it.
        bootstrap: Resamples behind each interval; 0 for none.

    Returns:
        Cells of the model, of its controls, and of the baselines, sorted.
    """
    items = {item.id: item for item in prepared.queries}
    by_cell: dict[CellKey, list[Prediction]] = {}
    for each in sorted(predictions, key=lambda prediction: prediction.key):
        by_cell.setdefault(each.key[:4], []).append(each)
    shown = _Shown(prepared)
    for key, own in list(by_cell.items()):
        if key[3] == "none":
            for name, answered in shown.baselines(own, items).items():
                by_cell[*key[:3], name] = answered
    cells = {key: _cell(prepared, key, answered, items, shown, bootstrap) for key, answered in by_cell.items()}
    return [_with_difference(cells, cells[key], items, prepared.task, by_cell, bootstrap) for key in sorted(cells)]


class _Shown:
    """The answers that shots showed."""

    def __init__(self, prepared: PreparedTask) -> None:
        self._task = prepared.task
        own = [item for query in prepared.queries for item in query.support or ()]
        self._answers = {item.id: demo_answer(item, self._task.demo_answer) for item in (*prepared.support, *own)}
        self._support = [self._answers[item.id] for item in prepared.support]

    def answers(self, predictions: Sequence[Prediction]) -> dict[str, list[str]]:
        return {
            each.id: [self._answers[shot] for shot in each.shot_ids if shot in self._answers] for each in predictions
        }

    def baselines(self, own: Sequence[Prediction], items: Mapping[str, TaskItem]) -> dict[str, list[Prediction]]:
        found = baseline_predictions(
            own, items, answers=self.answers(own), support_answers=self._support, candidates=self._task.candidates
        )
        return {name: answered for name, answered in found.items() if len(answered) == len(own)}


def _cell(
    prepared: PreparedTask,
    key: CellKey,
    predictions: Sequence[Prediction],
    items: Mapping[str, TaskItem],
    shown: _Shown,
    bootstrap: int,
) -> Cell:
    task, asked = prepared.task, [items[each.id] for each in predictions]
    scores = tuple(metric.score(asked, predictions) for metric in task.metrics)
    interval = None
    if bootstrap and scores[0].value is not None:
        interval = metric_interval(task.metrics[0], asked, predictions, num_resamples=bootstrap)
    stops = Counter(f"stopped_by_{each.stopped_by}" for each in predictions if each.stopped_by)
    truncated = sum(each.dropped_shots > 0 for each in predictions)
    missing = len(prepared.missing)
    counts = {**scores[0].counts, "asked": len(predictions), "missing": missing, "truncated": truncated, **stops}
    told = key[3] not in BASELINES and not find_control(key[3]).moves_answers
    rates = copy_rates(predictions, shown.answers(predictions)) if told else {}
    return Cell(
        task=key[0], shots=key[1], seed=key[2], control=key[3], scores=scores, interval=interval,
        counts=counts, rates=rates,
    )  # fmt: skip


def _with_difference(
    cells: Mapping[CellKey, Cell],
    cell: Cell,
    items: Mapping[str, TaskItem],
    task: Task,
    by_cell: Mapping[CellKey, Sequence[Prediction]],
    bootstrap: int,
) -> Cell:
    """A control's cell with what the model's own score is above it, on the queries that both were asked."""
    key = (cell.task, cell.shots, cell.seed, cell.control)
    own = (*key[:3], "none")
    if cell.control == "none" or own not in cells or not bootstrap or cell.scores[0].value is None:
        return cell
    both = {each.id for each in by_cell[own]} & {each.id for each in by_cell[key]}
    if not both:
        return cell
    ours, theirs = ([each for each in by_cell[one] if each.id in both] for one in (own, key))
    asked = [items[each.id] for each in ours]
    difference = metric_difference(task.metrics[0], asked, ours, theirs, num_resamples=bootstrap)
    return replace(cell, difference=difference)
