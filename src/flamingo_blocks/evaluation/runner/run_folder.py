"""Where a run keeps what was answered, so that nothing is asked twice and nothing is lost."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports import Journal, read_journals, read_predictions, read_results, write_report
from flamingo_blocks.evaluation.results import EvaluationResult
from flamingo_blocks.evaluation.runner.described import what_answers_depend_on
from flamingo_blocks.evaluation.runner.prepare import PreparedTask
from flamingo_blocks.evaluation.runner.processes import barrier, gathered, merged_facts, rank_and_ranks

_OTHER = {"weights": "another model,", "processor": "another tokenizer or way of writing prompts,"}
PREDICTIONS, RESULTS, RUN, JOURNALS = "predictions.jsonl", "results.json", "run.json", "journal"


class RunFolder:
    """The answers of a run, on disk where there is a folder.

    Args:
        folder: The folder, or None to keep them in memory.
        described: What is run.
        answered: What was answered before.
        earlier: What a call before this one has found.
        rank: Number of this process.
        ranks: Number of processes.
    """

    def __init__(
        self,
        folder: Path | None,
        described: Mapping[str, Any],
        answered: Mapping[tuple[str, int, int, str, str], Prediction],
        *,
        earlier: EvaluationResult | None = None,
        rank: int,
        ranks: int,
    ) -> None:
        self.folder, self.described, self.rank, self.ranks = folder, described, rank, ranks
        self.earlier = earlier
        self.answered = dict(answered)
        self._journal = None if folder is None else Journal(folder / JOURNALS, process=rank)

    @classmethod
    def open(cls, folder: Path | None, described: Mapping[str, Any]) -> "RunFolder":
        """Open a folder, new or of a run that was ended.

        Args:
            folder: The folder, or None.
            described: What is run.

        Raises:
            EvaluationError: If the folder holds answers of another run, or its result is damaged.
        """
        rank, ranks = rank_and_ranks()
        answered, earlier = {}, None
        if folder is not None:
            if rank == 0:
                _claim(folder, what_answers_depend_on(described))
            barrier()
            answered = {one.key: one for one in _read(folder)}
            earlier = _earlier(folder / RESULTS)
            barrier()  # nobody writes before all have read
        return cls(folder, described, answered, earlier=earlier, rank=rank, ranks=ranks)

    def check_queries(self, prepared: Sequence[PreparedTask]) -> None:
        """Refuse tasks that lack queries which were answered, before more is asked.

        Args:
            prepared: The tasks.

        Raises:
            EvaluationError: If a task lacks one: it was another split, or more queries.
        """
        for each in prepared:
            ids = {item.id for item in each.task.queries}
            if lost := sorted({key[4] for key in self.answered if key[0] == each.task.name} - ids):
                raise EvaluationError(
                    f"{self.folder} holds answers to {len(lost)} queries that task {each.task.name} has not now, such "
                    f"as {lost[0]!r}: those of another split, or of more queries; name another folder, or ask as then"
                )

    def keep(self, predictions: Sequence[Prediction]) -> None:
        """Keep answers; on disk when this returns.

        Args:
            predictions: New ones.
        """
        if self._journal is not None:
            self._journal.append(predictions)
        self.answered |= {one.key: one for one in predictions}

    def __enter__(self) -> "RunFolder":  # noqa: PYI034 - the shape checks do not take `Self` in a method
        return self

    def __exit__(self, *_error: object) -> None:
        if self._journal is not None:
            self._journal.close()

    def wait_for_all(self) -> None:
        """Wait until every process has asked its share."""
        barrier()

    def read(self) -> list[Prediction]:
        """The answers of all processes, sorted."""
        if self.folder is not None:
            found = {one.key: one for one in _read(self.folder)}
        else:
            found = {key: one for part in gathered(self.answered) for key, one in part.items()}
        return [found[key] for key in sorted(found)]

    def with_earlier(self, result: EvaluationResult) -> EvaluationResult:
        """What was found, and what earlier calls for this folder have found of other tasks.

        Args:
            result: Of the tasks of this call.
        """
        earlier = EvaluationResult(cells=(), run={}, tasks={}) if self.earlier is None else self.earlier
        others = earlier.tasks.keys() - result.tasks.keys()
        cells = (*(cell for cell in earlier.cells if cell.task in others), *result.cells)
        tasks = {**{name: earlier.tasks[name] for name in others}, **result.tasks}
        by_name = sorted(cells, key=lambda cell: cell.task)  # those of a task are sorted
        return replace(result, cells=tuple(by_name), tasks={name: tasks[name] for name in sorted(tasks)})

    def with_earlier_facts(self, task: str, facts: Mapping[str, Any]) -> dict[str, Any]:
        """How a task was run, by this call and those before it.

        Args:
            task: Its name.
            facts: Of this call.
        """
        told = {} if self.earlier is None else self.earlier.tasks.get(task, {}).get("decoding", {})
        return merged_facts([told, facts] if told.keys() == facts.keys() else [facts])

    def finish(
        self, result: EvaluationResult, predictions: Sequence[Prediction], prepared: Sequence[PreparedTask]
    ) -> None:
        """Write the report; the answers of all processes are in one file then.

        Args:
            result: What was found.
            predictions: All answers.
            prepared: The tasks, for what would have been right.
        """
        if self.folder is not None and self.rank == 0:
            name = result.run["model"]["name"]
            write_report(self.folder, result, predictions, name=name, answers=right_answers(prepared))
            for journal in (self.folder / JOURNALS).glob("*.jsonl"):
                journal.unlink()
            (self.folder / JOURNALS).rmdir()
        barrier()


def right_answers(prepared: Sequence[PreparedTask]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What counts as right, by task and query, as a report shows it.

    Args:
        prepared: The tasks.
    """
    return {(each.task.name, item.id): item.answers for each in prepared for item in each.queries if item.answers}


def _read(folder: Path) -> list[Prediction]:
    found = {one.key: one for one in read_predictions(folder / PREDICTIONS)} if (folder / PREDICTIONS).exists() else {}
    if (folder / JOURNALS).is_dir():
        found |= {one.key: one for one in read_journals(folder / JOURNALS)}
    return list(found.values())


def _earlier(file: Path) -> EvaluationResult | None:
    """What earlier calls have found; a damaged file is told before anything is asked."""
    if not file.exists():
        return None
    try:
        return read_results(file)
    except EvaluationError as error:
        raise EvaluationError(
            f"{error}; move {file} away: answers are kept beside it, and what is asked again is scored from those"
        ) from error


def _claim(folder: Path, wanted: Mapping[str, Any]) -> None:
    """Write down what the folder's answers depend on, or compare."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOURNALS).mkdir(exist_ok=True)
    file = folder / RUN
    if not file.exists():
        _write(file, wanted)
        return
    try:
        there = json.loads(file.read_text())
    except ValueError as error:
        raise EvaluationError(f"{file} is damaged: {error}; name another folder") from error
    if not isinstance(there, dict):
        raise EvaluationError(f"{file} is damaged: it holds {there!r:.60}, wanted an object; name another folder")
    if not _read(folder):  # an attempt that failed at once holds nothing that could be lost
        _write(file, wanted)
        return
    wanted = json.loads(json.dumps(wanted))
    tasks = there.pop("tasks", {})
    for name, task in dict(wanted).pop("tasks").items():
        if name in tasks and tasks[name] != task:
            raise EvaluationError(
                f"{folder} holds answers to task {name} with {tasks[name]}, now it is {task}: other files, or another "
                "version of them; name another folder"
            )
    for key in sorted((there.keys() | wanted.keys()) - {"tasks"}):
        if there.get(key) != wanted.get(key):
            raise EvaluationError(
                f"{folder} holds answers of {_OTHER.get(key, 'a run')} with {key}={there.get(key)!r}, this one has "
                f"{wanted.get(key)!r}; name another folder, or ask as then"
            )
    _write(file, {**wanted, "tasks": {**tasks, **wanted["tasks"]}})


def _write(file: Path, values: Mapping[str, Any]) -> None:
    with atomic_file(file) as opened:
        opened.write((json.dumps(values, indent=1, sort_keys=True) + "\n").encode())
