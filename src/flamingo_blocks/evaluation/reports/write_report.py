"""All files that an evaluation leaves, in one folder."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports.predictions import write_predictions
from flamingo_blocks.evaluation.reports.report_html import html_report
from flamingo_blocks.evaluation.reports.report_md import markdown_report
from flamingo_blocks.evaluation.reports.results_json import write_results
from flamingo_blocks.evaluation.results import EvaluationResult


@dataclass(frozen=True, kw_only=True)
class ReportFiles:
    """Where the files of an evaluation are.

    Args:
        predictions: `predictions.jsonl`: all that was answered.
        results: `results.json`: all scores.
        markdown: `report.md`: tables to read.
        html: `report.html`: pictures to look at.

    Example:
        >>> result = EvaluationResult(cells=(), run={}, tasks={})
        >>> files = write_report("evaluation", result, [])
        >>> files.predictions.as_posix(), files.markdown.is_file()
        ('evaluation/predictions.jsonl', True)
    """

    predictions: Path
    results: Path
    markdown: Path
    html: Path


def write_report(
    folder: str | os.PathLike[str],
    result: EvaluationResult,
    predictions: Iterable[Prediction],
    *,
    title: str = "Few-shot evaluation",
    name: str = "this model",
    samples: int = 4,
    answers: Mapping[tuple[str, str], Sequence[str]] | None = None,
    per_item: bool = True,
) -> ReportFiles:
    """Write predictions, results and both reports; each file is there whole or not at all.

    The same result and predictions give the same bytes.

    Args:
        folder: Where to; made if it is not there.
        result: What an evaluation found.
        predictions: All that was answered, in any order.
        title: Of the reports.
        name: What the model is called in the pictures.
        samples: Most samples of each task in the page.
        answers: What counts as right, by task and id of a query, for the samples.
        per_item: Whether `results.json` keeps the score of each item.

    Returns:
        Where they are.

    Raises:
        ValueError: If `samples` is negative.
        EvaluationError: If a file could not hold what is given; no report is written then.

    Example:
        >>> from flamingo_blocks.evaluation.results import Cell
        >>> from flamingo_blocks.evaluation.score import Score
        >>> cell = Cell(task="vqav2", shots=4, seed=0, scores=(Score(variant="VQA(official)", value=53.2),))
        >>> result = EvaluationResult(cells=(cell,), run={}, tasks={"vqav2": {"title": "VQAv2"}})
        >>> answered = [Prediction(task="vqav2", id="7", shots=4, seed=0, raw=" yes<EOC>", answer="yes")]
        >>> files = write_report("evaluation", result, answered, answers={("vqav2", "7"): ["yes", "no"]})
        >>> files.html.name, "VQA(official)" in files.markdown.read_text(encoding="utf-8")
        ('report.html', True)
    """
    if samples < 0:
        raise ValueError(f"samples is {samples}, wanted 0 or more")
    root, answered = Path(folder), sorted(predictions, key=lambda prediction: prediction.key)
    root.mkdir(parents=True, exist_ok=True)
    files = ReportFiles(
        predictions=root / "predictions.jsonl", results=root / "results.json", markdown=root / "report.md",
        html=root / "report.html",
    )  # fmt: skip
    write_results(files.results, result, per_item=per_item)
    write_predictions(files.predictions, answered)
    page = html_report(result, answered, title=title, name=name, samples=samples, answers=answers)
    for path, text in ((files.markdown, markdown_report(result, title=title)), (files.html, page)):
        with atomic_file(path) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    return files
