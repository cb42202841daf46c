"""Reports say what the result says, whatever its texts are, and load nothing."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports import (
    find_warnings,
    html_report,
    markdown_report,
    read_predictions,
    read_results,
    write_report,
)  # fmt: skip
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.score import Score
from tests.evaluation.reports.made_result import made_predictions, made_result

VOID = {"meta", "br", "circle", "rect", "path", "line", "polygon", "polyline"}
EVIL = '"><script>alert(1)</script><img src=http://x.org/a.png onerror=alert(1)>|`*\u202e\x00'


class Page(HTMLParser):
    """Checks that tags are closed in order, and gathers what could load something."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.tags, self.wrong, self.text = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.wrong += [
            (tag, name) for name, _ in attrs if name in {"src", "href", "xlink:href"} or name.startswith("on")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def numbers_of(value):
    """All numbers of a JSON value as reports print them, and those inside of its texts."""
    if isinstance(value, dict):
        return set().union(*(numbers_of(part) for pair in value.items() for part in pair))
    if isinstance(value, list):
        return set().union(*map(numbers_of, value))
    if isinstance(value, str):
        return set(re.findall(r"\d+(?:\.\d+)?", value))
    if value is None or isinstance(value, bool):
        return set()
    return {f"{abs(value):.2f}", f"{100 * abs(value):.1f}", str(abs(value))}


def test_every_number_of_the_tables_is_in_the_results(tmp_path):
    """What a report prints can be found in `results.json`, which has more digits."""
    files = write_report(tmp_path, made_result(), [])
    known = numbers_of(json.loads(files.results.read_text())) | {"95"}  # the level of the intervals
    seeds = {str(count) for count in (1, 2)}  # n
    for line in files.markdown.read_text().splitlines()[4:]:
        plain = re.sub(r"0 shots: |\(n=\d\)", "", line.replace("\\", ""))
        found = set(re.findall(r"\d+(?:\.\d+)?", plain))
        assert found <= known | seeds, (found - known, line)


def test_scores_stand_with_spread_interval_and_variant():
    """Mean, standard deviation, interval, number of seeds, and the rule by which they were found."""
    text = markdown_report(made_result())
    row = next(line for line in text.splitlines() if line.startswith("| model | CIDEr-D"))
    assert "| model | CIDEr-D(ptb-regex, idf=evaluated, N=5000) |" in row
    assert len(re.findall(r"\d+\.\d\d ± \d\.\d\d \\\[\d+\.\d\d, \d+\.\d\d\\\] \(n=2\)", row)) == 5
    assert "| control blind |" in text
    assert "| baseline last\\_shot |" in text
    assert "| model less control blind |" in text
    assert "| model | VQA(always) |" in text
    assert "(n=2) OOC |" in text
    assert "±" not in "".join(markdown_report(made_result(seeds=(1,))).splitlines()[3:])


@pytest.mark.parametrize("samples", (0, 3))
def test_the_page_is_whole_and_loads_nothing(samples):
    """Tags are closed, ids are there once, each picture has title and description, and nothing is fetched or run."""
    page = html_report(made_result(), made_predictions(), samples=samples)
    read = Page(page)
    assert read.open == []
    assert len(read.ids) == len(set(read.ids))
    assert read.wrong == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(read.tags)
    assert not re.search(r"https?:|url\(|@import", page)
    assert page.count('role="img"') == page.count("<desc") == 7  # one of all tasks, three of scores, three of controls
    for id_ in re.findall(r'aria-labelledby="([^"]+)"', page):
        assert set(id_.split()) <= set(read.ids)
    assert "prefers-color-scheme: dark" in page
    assert ("Samples" in "".join(read.text)) == bool(samples)


def test_whatever_is_written_is_shown_and_never_obeyed():
    """Names of tasks, titles, variants, controls, facts, answers and prompts are texts of strangers."""
    cell = Cell(
        task=EVIL, shots=0, seed=0, scores=(Score(variant=EVIL, value=1.0, parts={EVIL: 2.0}),), counts={EVIL: 1},
        rates={EVIL: 0.5}, facts={EVIL: EVIL},
    )  # fmt: skip
    less = replace(cell, control=EVIL, difference=(1.0, 0.0, 2.0))
    result = EvaluationResult(cells=(cell, less), run={EVIL: [EVIL]}, tasks={EVIL: {"title": EVIL, EVIL: EVIL}})
    asked = [Prediction(task=EVIL, id=EVIL, shots=0, seed=0, prompt=EVIL, raw=EVIL, answer="a")]
    page = html_report(result, asked, title=EVIL, name=EVIL, answers={(EVIL, EVIL): [EVIL]})
    read = Page(page)
    assert read.wrong == []
    assert not {"script", "img"} & set(read.tags)
    assert "\x00" not in page
    assert "\u202e" not in page
    text = markdown_report(result, title=EVIL)
    assert not re.search(r"<\w", text)
    heads = [line for line in text.splitlines() if line.startswith("|---")]
    widths = [line.count("---") for line in heads]
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) - 1 in widths


def test_the_files_hold_what_they_were_given(tmp_path):
    """All four, in a folder that is made; the same again gives the same bytes."""
    result, predictions = made_result(tasks=("vqav2",)), made_predictions(("vqav2",))
    first = write_report(tmp_path / "a", result, predictions)
    again = write_report(tmp_path / "b", result, reversed(predictions))
    assert read_results(first.results) == result
    assert sorted(each.key for each in read_predictions(first.predictions)) == sorted(each.key for each in predictions)
    for one, other in ((first.html, again.html), (first.markdown, again.markdown), (first.results, again.results)):
        assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "predictions.jsonl", "report.html", "report.md", "results.json",
    ]  # fmt: skip
    with pytest.raises(ValueError, match="samples is -1, wanted 0 or more"):
        write_report(tmp_path, result, [], samples=-1)


def test_a_result_without_anything_is_a_report_too(tmp_path):
    """No tasks; a task without cells; one without answers; one whose only score is zero."""
    nothing = Cell(task="a", shots=0, seed=0, scores=(Score(variant="V", value=None),))
    zero = Cell(task="c", shots=0, seed=0, scores=(Score(variant="V", value=0.0),))
    for cells, tasks in (((), {}), ((nothing, zero), {"a": {}, "b": {}, "c": {}})):
        files = write_report(tmp_path, EvaluationResult(cells=cells, run={}, tasks=tasks), [])
        assert Page(files.html.read_text()).open == []
        assert ("no score" in files.markdown.read_text()) == bool(cells)


def warned(curve, **more):
    """Warnings of one task with a curve of one seed."""
    cells = [
        Cell(task="t", shots=shots, seed=0, scores=(Score(variant="V", value=value),),
             **{name: given[shots] for name, given in more.items() if shots in given})
        for shots, value in curve.items()
    ]  # fmt: skip
    return " ".join(each.text for each in find_warnings(EvaluationResult(cells=tuple(cells), run={}, tasks={"t": {}})))


@pytest.mark.parametrize(
    ("curve", "more", "text"),
    (
        ({0: 50.0, 4: 49.0}, {}, "4 shots score below 0 shots: 49.00 after 50.00."),
        ({0: 50.0, 1: 49.0, 4: 51.0}, {}, "1 shot scores below 0 shots"),
        ({16: 50.0, 32: 49.0}, {}, "32 shots score below 16 shots"),
        ({4: 1.0, 32: 2.0}, {"rates": {4: {"copy_last": 0.1}, 32: {"copy_last": 0.2}}}, "rise from 10.0 % with 4"),
        ({4: 1.0}, {"counts": {4: {"asked": 100, "stopped_by_length": 6}}}, "With 4 shots up to 6.0 % of the answers"),
        ({4: 1.0}, {"counts": {4: {"asked": 100, "truncated": 3}}}, "With 4 shots up to 3 of 100 queries lost shots"),
        ({4: 1.0}, {"counts": {4: {"asked": 100, "missing": 2}}}, "2 queries were not asked"),
        ({4: 1.0}, {"counts": {4: {"asked": 100, "scored": 99}}}, "99 of 100 in the worst case"),
        (
            {0: 1.0, 4: 2.0, 8: 3.0},
            {"counts": {0: {"asked": 20}, 4: {"asked": 12}, 8: {"asked": 20, "missing": 2}}},
            "otherwise: 12 of 20. Ask again with --shots 4 --seeds 0 --queries 22, all else as it was.",
        ),
    ),
)  # fmt: skip
def test_what_asks_for_a_second_look_is_told(curve, more, text):
    """Curves that fall, copying, answers that were cut, queries that lost shots or were left out."""
    assert text in warned(curve, **more)


def test_seeds_and_controls_that_fewer_queries_were_asked_with_are_told():
    """Each with the words that ask for the rest; baselines answer what the model was asked."""
    scores = (Score(variant="V", value=1.0),)
    own = [Cell(task="t", shots=4, seed=seed, scores=scores, counts={"asked": 20 - seed}) for seed in (0, 1)]
    asked = {("blind", 0): 20, ("blind", 1): 19, ("shuffle_images", 0): 6, ("shuffle_images", 1): 7}
    others = [
        Cell(task="t", shots=4, seed=seed, control=name, scores=scores, counts={"asked": number})
        for (name, seed), number in {**asked, ("baseline:last_shot", 0): 5}.items()
    ]
    found = find_warnings(EvaluationResult(cells=(*own, *others), run={}, tasks={"t": {}}))
    behind, covered = (each.text for each in found)
    assert behind == (
        "With 4 shots not all queries were asked that were asked otherwise: 19 of 20. "
        "Ask again with --shots 4 --seeds 1 --queries 20, all else as it was."
    )
    assert covered == (
        "With 4 shots the control shuffle_images covers fewer queries than the model's own score: 6 of 20. "
        "Ask again with --controls shuffle_images --shots 4 --seeds 0,1 --queries 20, all else as it was."
    )


@pytest.mark.parametrize(
    ("curve", "more"),
    (
        ({0: 50.0, 4: 50.0, 16: 60.0, 32: 60.0}, {}),
        ({0: 50.0, 8: 40.0, 16: 60.0}, {}),
        ({0: 50.0}, {}),
        ({4: 1.0, 32: 2.0}, {"rates": {4: {"copy_last": 0.1}, 32: {"copy_last": 0.12}}}),
        (
            {4: 1.0},
            {"counts": {4: {"asked": 100, "scored": 100, "missing": 0, "truncated": 0, "stopped_by_length": 5}}},
        ),
    ),
)
def test_what_is_as_it_should_be_is_not_told(curve, more):
    """No warning without cause."""
    assert warned(curve, **more) == ""
