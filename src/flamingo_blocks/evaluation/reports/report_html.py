"""`report.html`: a result as pictures, in one file that needs no other."""

from collections.abc import Iterable, Mapping, Sequence

from flamingo_blocks.data.show.write_html import as_text
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports.chart_series import LINES, ratio_groups, task_series
from flamingo_blocks.evaluation.reports.curves import draw_curves
from flamingo_blocks.evaluation.reports.difference_chart import draw_differences
from flamingo_blocks.evaluation.reports.findings import Finding, find_warnings
from flamingo_blocks.evaluation.reports.html_parts import facts, key, said, table
from flamingo_blocks.evaluation.reports.image_use import Difference, differences_of, sentence
from flamingo_blocks.evaluation.reports.published import published_scores
from flamingo_blocks.evaluation.reports.report_style import style_sheet
from flamingo_blocks.evaluation.reports.samples import pick_samples, sample_row
from flamingo_blocks.evaluation.reports.summarise import OWN, Summary, summarise
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

# Nothing is loaded and nothing runs, whatever a model wrote: a second wall behind the escapes.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def html_report(
    result: EvaluationResult,
    predictions: Sequence[Prediction] = (),
    *,
    title: str = "Few-shot evaluation",
    name: str = "this model",
    samples: int = 4,
    answers: Mapping[tuple[str, str], Sequence[str]] | None = None,
    lines: Sequence[str] = LINES,
) -> str:
    """A result as a page: curves beside published ones, what the images do, samples, and all numbers.

    The page loads nothing and runs nothing; it reads in the light and in the dark, and on a telephone.

    Args:
        result: What an evaluation found.
        predictions: Where samples are taken from.
        title: Of the page.
        name: What the model is called in the pictures.
        samples: Most samples of each task.
        answers: What counts as right, by task and id of a query, for the samples.
        lines: Models whose published curves are drawn where they have the task.

    Example:
        >>> from flamingo_blocks.evaluation.results import Cell
        >>> from flamingo_blocks.evaluation.score import Score
        >>> cell = Cell(task="coco", shots=4, seed=0, scores=(Score(variant="CIDEr-D(split)", value=53.2),))
        >>> page = html_report(EvaluationResult(cells=(cell,), run={}, tasks={"coco": {"title": "COCO <b>"}}))
        >>> "COCO &lt;b&gt;" in page, "Flamingo-80B" in page
        (True, True)
    """
    summaries, findings = summarise(result), find_warnings(result)
    titles = {task: str(about.get("title", task)) for task, about in result.tasks.items()}
    differences = {task: differences_of(summaries, task) for task in titles}
    verdicts = {task: verdict(task, result.cells, found) for task, found in differences.items()}
    body = [
        *_header(result, title, titles),
        *_first(findings, titles, verdicts),
        *_ratios(summaries, titles, lines, name),
        *_curves(summaries, titles, lines, name),
        *_image_use(differences, verdicts, titles),
        *_samples(predictions, titles, samples, answers or {}),
        *_numbers(result, summaries, titles),
        f"<h2>Run</h2>{facts(fact_rows(result.run))}",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{as_text(_POLICY)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{as_text(title)}</title>\n<style>\n{style_sheet()}</style>\n</head>\n<body>\n"
        f"{''.join(body)}</main>\n</body>\n</html>\n"
    )


def _header(result: EvaluationResult, title: str, titles: Mapping[str, str]) -> Iterable[str]:
    own = [cell for cell in result.cells if cell.control == OWN]
    shots, seeds = sorted({cell.shots for cell in own}), sorted({cell.seed for cell in own})
    yield f"<header><h1>{as_text(title)}</h1><p>{as_text(_counted(titles, shots, seeds))}</p></header>\n<main>\n"


def _first(findings: Sequence[Finding], titles: Mapping[str, str], verdicts: Mapping[str, str]) -> Iterable[str]:
    """What is to be read before the numbers: whether the images are used, and what asks for a second look."""
    if titles:
        told = said(f"{title}: {verdicts[task]}" for task, title in titles.items())
        yield f'<section class="card{" warn" if findings else ""}"><h2 style="margin:0">Look at this first</h2>'
        yield f"<h3>Does it use the images?</h3>{told}"
        if findings:
            yield f"<h3>A second look</h3>{said(f'{titles[each.task]}: {each.text}' for each in findings)}"
        yield "</section>\n"


def _counted(titles: Mapping[str, str], shots: Sequence[int], seeds: Sequence[int]) -> str:
    tasks = f"{len(titles)} task{'' if len(titles) == 1 else 's'}: {', '.join(titles.values()) or 'none'}."
    return f"{tasks} Shots: {', '.join(map(str, shots)) or 'none'}. Seeds: {', '.join(map(str, seeds)) or 'none'}."


def _ratios(summaries: Sequence[Summary], titles: Mapping[str, str], lines: Sequence[str], name: str) -> Iterable[str]:
    groups = ratio_groups(summaries, titles, lines=lines, name=name)
    if not groups:
        return
    yield "<h2>All tasks together</h2>"
    yield (
        "<p>Score as a share of the best fine-tuned score of 2022, averaged over tasks. Two curves are compared over "
        'the tasks that both have.</p><div class="grid-of">'
    )
    for number, (tasks, series) in enumerate(groups):
        names = ", ".join(titles[task] for task in tasks)
        told = f"Mean over {len(tasks)} task{'' if len(tasks) == 1 else 's'}: {names}"
        chart = draw_curves(series, identity=f"ratio{number}", title=told, unit="% of fine-tuned")
        yield f'<section class="card"><h3>{as_text(told)}</h3>{chart}</section>'
    yield "</div>\n"


def _curves(summaries: Sequence[Summary], titles: Mapping[str, str], lines: Sequence[str], name: str) -> Iterable[str]:
    yield f'<h2>Score over shots</h2>{key(name)}<div class="grid-of">'
    for number, (task, title) in enumerate(titles.items()):
        variants = list(dict.fromkeys(each.variant for each in summaries if each.task == task and each.place == 0))
        series = task_series(summaries, task, lines=lines, name=name)
        yield f'<section class="card"><h3>{as_text(title)}</h3>'
        if any(each.style != "published" for each in series):
            yield f'<p class="muted">{as_text("; ".join(variants))}</p>'
            yield draw_curves(
                series, identity=f"task{number}", title=f"{title}: score over shots", unit=variants[0].split("(")[0]
            )
            yield _about_published(task, [each.name for each in series if each.style == "published"])
        else:
            yield "<p>Nothing was scored.</p>"
        yield "</section>"
    yield "</div>\n"


def _about_published(task: str, models: Sequence[str]) -> str:
    """What the grey curves are, and what to know before comparing."""
    rows = [row for row in published_scores(task) if row.model in models and row.selection == "random"]
    if not rows:
        return ""
    notes = dict.fromkeys(f"{row.model}: {row.metric}, {row.split or 'split not told'}. {row.source}" for row in rows)
    more = dict.fromkeys(f"{row.model}, {row.shots} shots: {row.notes}" for row in rows if row.score is None)
    return f"<details><summary>The grey curves</summary>{said([*notes, *more])}</details>"


def _image_use(
    differences: Mapping[str, Sequence[Difference]], verdicts: Mapping[str, str], titles: Mapping[str, str]
) -> Iterable[str]:
    yield "<h2>Does it use the images?</h2>"
    yield (
        "<p>Own score less the score when one thing was taken away, on the same queries, with its 95 % interval. "
        "Filled points: the interval does not hold zero. In parentheses: shots.</p>"
        '<div class="grid-of">'
    )
    for number, (task, title) in enumerate(titles.items()):
        found = differences[task]
        yield f'<section class="card"><h3>{as_text(title)}</h3><p>{as_text(verdicts[task])}</p>'
        if found:
            yield draw_differences(found, identity=f"less{number}", title=f"{title}: own score less controls")
            yield f"<details><summary>In words</summary>{said(map(sentence, found))}</details>"
        yield "</section>"
    yield "</div>\n"


def _samples(
    predictions: Sequence[Prediction],
    titles: Mapping[str, str],
    samples: int,
    answers: Mapping[tuple[str, str], Sequence[str]],
) -> Iterable[str]:
    head = ("query", "end of the prompt", "answer", "right", "stopped by")
    begun = False
    for task, title in titles.items():
        picked = pick_samples(predictions, task, number=samples)
        if picked:
            rows = tuple(sample_row(each, answers.get((task, each.id), ())) for each in picked)
            shots = f"{picked[0].shots} shot{'' if picked[0].shots == 1 else 's'}, seed {picked[0].seed}"
            yield "" if begun else "<h2>Samples</h2>"
            begun = True
            yield f"<h3>{as_text(title)}, {shots}</h3>{table(Table(head=head, rows=rows), 'samples', title)}\n"


def _numbers(result: EvaluationResult, summaries: Sequence[Summary], titles: Mapping[str, str]) -> Iterable[str]:
    yield (
        "<h2>All numbers</h2><p>Means over seeds ± standard deviation over seeds, n seeds; in brackets the 95 % "
        "interval of a bootstrap over images or videos, its ends averaged over seeds. Compare scores of one variant "
        "only.</p>"
    )
    for task, title in titles.items():
        cells = [cell for cell in result.cells if cell.task == task]
        if not cells:
            continue
        own = [each for each in summaries if each.task == task]
        about = {name: value for name, value in result.tasks[task].items() if name != "title"}
        yield f"<h3>{as_text(title)}</h3>{table(score_table(own, cells), 'scores', f'{title}: scores')}"
        if (parts := part_table(cells)) is not None:
            yield table(parts, "scores", f"{title}: parts of the headline")
        counts = table(count_table(own, cells), "scores", f"{title}: counts")
        notes = facts([*fact_rows(about), *note_rows(cells)])
        yield f"<details><summary>Counts, shares and notes</summary>{counts}{notes}</details>\n"
