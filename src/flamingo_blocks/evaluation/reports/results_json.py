"""`results.json`: all scores of an evaluation with all that they were found by."""

import os
from dataclasses import replace
from pathlib import Path

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.evaluation.reports.plain_json import read_json, write_json
from flamingo_blocks.evaluation.reports.predictions import file_bytes
from flamingo_blocks.evaluation.reports.results_schema import result_of, result_values
from flamingo_blocks.evaluation.results import EvaluationResult


def write_results(file: str | os.PathLike[str], result: EvaluationResult, *, per_item: bool = True) -> None:
    """Write a result; the file is there whole or not at all, and equal results give equal bytes.

    Besides the result it holds a `summary`: mean and spread over the seeds of each score, as the reports print them.

    Args:
        file: Where to; what stood there is replaced.
        result: What an evaluation found. Its cells are sorted by task, control, shots and seed.
        per_item: Whether the score of each item is kept. Without them the file is small, and intervals cannot be found
            again.

    Raises:
        EvaluationError: Naming the cell and the value that the file cannot hold: NaN, a cell that comes twice, or one
            of a task that is not among the tasks.

    Example:
        >>> from flamingo_blocks.evaluation.results import Cell
        >>> from flamingo_blocks.evaluation.score import Score
        >>> cell = Cell(task="vqav2", shots=4, seed=0, scores=(Score(variant="VQA(official)", value=53.2),))
        >>> result = EvaluationResult(cells=(cell,), run={"model": "tiny"}, tasks={"vqav2": {"title": "VQAv2"}})
        >>> write_results("results.json", result)
        >>> read_results("results.json") == result
        True
    """
    if not per_item:
        result = replace(result, cells=tuple(
            replace(cell, scores=tuple(replace(score, per_item=()) for score in cell.scores)) for cell in result.cells
        ))  # fmt: skip
    content = write_json(result_values(result)).encode()
    with atomic_file(Path(file)) as written:
        written.write(content)


def read_results(file: str | os.PathLike[str]) -> EvaluationResult:
    """Read a result, strictly.

    Args:
        file: A file as `write_results` writes it.

    Raises:
        EvaluationError: Naming the key and what was found, if a key is missing or unknown, a value is of another kind,
            the version of the schema is another, or the summary is not that of the cells.

    Example:
        >>> write_results("results.json", EvaluationResult(cells=(), run={}, tasks={}))
        >>> read_results("results.json")
        EvaluationResult(cells=(), run={}, tasks={})
    """
    path = Path(file)
    return result_of(read_json(file_bytes(path), str(path)), str(path))
