"""`report.md`: a result as tables to read."""

from collections.abc import Iterable

from flamingo_blocks.evaluation.reports.findings import find_warnings, findings_of
from flamingo_blocks.evaluation.reports.image_use import differences_of, sentence
from flamingo_blocks.evaluation.reports.summarise import Summary, summarise
from flamingo_blocks.evaluation.reports.tables import (
    Table,
    count_table,
    fact_rows,
    note_rows,
    part_table,
    score_table,
)  # fmt: skip
from flamingo_blocks.evaluation.reports.verdict import verdict
from flamingo_blocks.evaluation.results import EvaluationResult

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_[]|~$"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def markdown_report(result: EvaluationResult, *, title: str = "Few-shot evaluation") -> str:
    """A result as Markdown: for each task its scores with spread, interval and variant, then what was counted.

    Args:
        result: What an evaluation found.
        title: Of the report.

    Example:
        >>> from flamingo_blocks.evaluation.results import Cell
        >>> from flamingo_blocks.evaluation.score import Score
        >>> cell = Cell(task="vqav2", shots=4, seed=0, scores=(Score(variant="VQA(official)", value=53.2),))
        >>> text = markdown_report(EvaluationResult(cells=(cell,), run={}, tasks={"vqav2": {"title": "VQAv2"}}))
        >>> "| model | VQA(official) | 53.20 (n=1) |" in text
        True
    """
    return "\n\n".join(_blocks(result, title)) + "\n"


def _blocks(result: EvaluationResult, title: str) -> Iterable[str]:
    summaries, findings = summarise(result), find_warnings(result)
    yield f"# {as_inline(title)}"
    yield (
        "Scores are means over seeds ± standard deviation over seeds, n seeds; in brackets the 95 % interval of a "
        "bootstrap over images or videos, its ends averaged over seeds. Compare scores of one variant only."
    )
    titles = {name: str(task.get("title", name)) for name, task in result.tasks.items()}
    if titles:
        yield "**Does it use the images?**"
        verdicts = {task: verdict(task, result.cells, differences_of(summaries, task)) for task in titles}
        yield _list(f"{title}: {verdicts[task]}" for task, title in titles.items())
    if findings:
        yield "## Warnings"
        yield _list(f"{titles[finding.task]}: {finding.text}" for finding in findings)
    for task in result.tasks:
        yield from _task(result, task, [each for each in summaries if each.task == task], findings_of(findings, task))
    yield "## Run"
    yield _facts(fact_rows(result.run))


def _task(result: EvaluationResult, task: str, summaries: list[Summary], warnings: list[str]) -> Iterable[str]:
    cells = [cell for cell in result.cells if cell.task == task]
    about = result.tasks[task]
    yield f"## {as_inline(str(about.get('title', task)))}"
    if not cells:
        yield "Nothing was scored."
        return
    yield _table(score_table(summaries, cells))
    if warnings:
        yield _list(f"Warning: {text}" for text in warnings)
    differences = differences_of(summaries, task)
    yield f"**Does it use the images?** {as_inline(verdict(task, cells, differences))}"
    if differences:
        yield _list(sentence(each) for each in differences)
    if (parts := part_table(cells)) is not None:
        yield "Parts of the headline, seed by seed:"
        yield _table(parts)
    yield "What was counted, and shares of the answers:"
    yield _table(count_table(summaries, cells))
    yield "Notes:"
    yield _facts([*fact_rows({name: value for name, value in about.items() if name != "title"}), *note_rows(cells)])


def _table(table: Table) -> str:
    head = f"| {' | '.join(map(as_inline, table.head))} |\n|{'---|' * len(table.head)}"
    return "\n".join([head, *(f"| {' | '.join(map(as_inline, row))} |" for row in table.rows)])


def _list(texts: Iterable[str]) -> str:
    return "\n".join(f"- {as_inline(text)}" for text in texts)


def _facts(rows: list[tuple[str, str]]) -> str:
    return _list(f"{name}: {value}" for name, value in rows) or "None."


def as_inline(text: str) -> str:
    r"""A text that stays in its line and its cell, whatever it holds.

    Args:
        text: Anything.

    Example:
        >>> print(as_inline("a|b\n<i>"))
        a\|b &lt;i&gt;
    """
    return " ".join(text.split()).translate(_MARKS)
