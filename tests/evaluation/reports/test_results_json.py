"""A result comes back from its file as it was, equal results are equal files, and what is no result is told."""

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.reports import SCHEMA_VERSION, read_results, summarise, write_results
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.score import Score
from tests.evaluation.reports.made_result import made_result

ORDER = ("task", "control", "shots", "seed")
names = st.text('abß\n\u2028"', max_size=4)
numbers = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e9)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
facts = st.dictionaries(names, values, max_size=3)
counts = st.dictionaries(names, st.integers(0, 9), max_size=3)
rates = st.dictionaries(names, numbers, max_size=3)
scores = st.fixed_dictionaries({  # built within the tests: the checks of shapes draw at random
    "variant": st.sampled_from(["A", "B"]), "value": st.none() | numbers,
    "per_item": st.lists(st.none() | numbers, max_size=4).map(tuple), "counts": counts, "parts": rates,
})  # fmt: skip
intervals = st.lists(numbers, min_size=2, max_size=2).map(sorted).map(tuple)
cells = st.fixed_dictionaries({
    "task": st.sampled_from(["coco", "vqav2"]), "shots": st.integers(0, 2), "seed": st.integers(0, 2),
    "control": st.sampled_from(["none", "blind", "baseline:x"]), "scores": st.lists(scores, min_size=1, max_size=2),
    "interval": st.none() | intervals,
    "difference": st.none() | st.tuples(numbers, intervals).map(lambda drawn: (drawn[0], *drawn[1])),
    "counts": counts, "rates": rates, "facts": facts,
})  # fmt: skip
results = st.fixed_dictionaries({
    "cells": st.lists(cells, max_size=4, unique_by=lambda cell: tuple(cell[name] for name in ORDER)), "run": facts,
    "tasks": st.fixed_dictionaries({"coco": facts, "vqav2": facts}),
})  # fmt: skip


def made(drawn):
    """A result of what was drawn."""
    built = (Cell(**{**cell, "scores": tuple(Score(**score) for score in cell["scores"])}) for cell in drawn["cells"])
    return EvaluationResult(cells=tuple(built), run=drawn["run"], tasks=drawn["tasks"])


def in_order(cell):
    return tuple(getattr(cell, name) for name in ORDER)


def turned(value):
    """The same value with its keys in another order."""
    if isinstance(value, dict):
        return {key: turned(value[key]) for key in reversed(value)}
    return [turned(part) for part in value] if isinstance(value, list) else value


@given(results)
def test_any_result_comes_back(tmp_path_factory, drawn):
    """With its cells in order."""
    file, result = tmp_path_factory.mktemp("law") / "results.json", made(drawn)
    write_results(file, result)
    assert read_results(file) == replace(result, cells=tuple(sorted(result.cells, key=in_order)))


@given(results)
def test_equal_results_are_equal_files(tmp_path_factory, drawn):
    """In whatever order cells and keys come."""
    folder, result = tmp_path_factory.mktemp("law"), made(drawn)
    cells_turned = tuple(replace(cell, facts=turned(cell.facts), counts=turned(cell.counts)) for cell in result.cells)
    other = EvaluationResult(cells=cells_turned[::-1], run=turned(result.run), tasks=turned(result.tasks))
    write_results(folder / "a", result)
    write_results(folder / "b", other)
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


def test_it_reads_well(tmp_path):
    """Version first, a list of numbers in one line, and every mean of the reports in the summary."""
    result = made_result()
    write_results(tmp_path / "a", result)
    text = (tmp_path / "a").read_text()
    assert text.startswith(f'{{\n "schema_version": {SCHEMA_VERSION},\n "run": {{\n')
    assert '"shots": [0, 4, 8, 16, 32],\n' in text
    means = {each["mean"] for each in json.loads(text)["summary"]}
    assert means == {each.mean for each in summarise(result)}


def test_items_may_be_left_out(tmp_path):
    """For a file that is small; all else is the same."""
    write_results(tmp_path / "a", made_result(), per_item=False)
    found = read_results(tmp_path / "a")
    assert not any(score.per_item for cell in found.cells for score in cell.scores)
    assert [cell.interval for cell in found.cells] == [cell.interval for cell in made_result().cells]


def one(**changes):
    """A result of one cell."""
    cell = Cell(task="coco", shots=4, seed=0, scores=(Score(variant="A", value=1.0),))
    return EvaluationResult(cells=(replace(cell, **changes),), run={}, tasks={"coco": {}})


@pytest.mark.parametrize(
    ("make", "message"),
    (
        (lambda: one(scores=()), r"cells\[0\] \(coco, 4 shots, seed 0, none\): scores is empty"),
        (
            lambda: one(scores=(Score(variant="A", value=math.nan),)),
            r"scores\[0\]: value is nan of type float, wanted a finite",
        ),
        (lambda: one(scores=(Score(variant="A", value=1.0, per_item=(math.inf,)),)), r"per_item\[0\] is inf"),
        (lambda: one(scores=(Score(variant="A", value=1.0, parts={"x": math.nan}),)), r"parts.x is nan"),
        (
            lambda: one(interval=(0.0, math.nan)),
            r"interval is \[0.0, nan\] of type list, wanted 2 finite numbers or null",
        ),
        (lambda: one(interval=(2.0, 1.0)), r"interval goes from 2.0 to 1.0, wanted the lower end first"),
        (lambda: one(difference=(1.0, 2.0)), r"difference is \[1.0, 2.0\] of type list, wanted 3 finite numbers"),
        (lambda: one(counts={"asked": -1}), r"counts.asked is -1 of type int, wanted a whole number, 0 or more"),
        (lambda: one(counts={"asked": 1.5}), r"counts.asked is 1.5"),
        (lambda: one(rates={"copy_any": math.inf}), r"rates.copy_any is inf"),
        (lambda: one(facts={"a": {"b": math.nan}}), r"facts.a.b is nan, wanted a finite number"),
        (lambda: one(facts={"a": [set()]}), r"facts.a\[0\] is set\(\) of type set, wanted null, true or false"),
        (lambda: one(facts={3: 1}), r"facts has the key 3 of type int, wanted texts"),
        (lambda: one(task="other"), r"cells\[0\] is of task 'other', which tasks lacks; it has coco"),
        (lambda: one(shots=-1), r"shots is -1 of type int, wanted a whole number, 0 or more"),
        (lambda: one(seed=True), r"seed is True of type bool, wanted a whole number"),
        (
            lambda: EvaluationResult(cells=one().cells * 2, run={}, tasks={"coco": {}}),
            r"cells\[1\] is of .* as cells\[0\] is",
        ),
        (
            lambda: EvaluationResult(cells=(), run={}, tasks={"coco": 3}),
            r"tasks.coco: is 3 of type int, wanted an object",
        ),
        (lambda: EvaluationResult(cells=(), run={"x": math.nan}, tasks={}), r"run.x is nan, wanted a finite number"),
    ),
)
def test_what_the_file_cannot_hold_is_not_written(tmp_path, make, message, without_shape_checks):
    """The error names the cell and the value, and the old file stays."""
    (tmp_path / "a").write_text("old")
    with pytest.raises(EvaluationError, match=message):
        write_results(tmp_path / "a", make())
    assert (tmp_path / "a").read_text() == "old"


def without(key):
    return lambda found: found.pop(key)


@pytest.mark.parametrize(
    ("change", "message"),
    (
        (without("run"), r"a: has no 'run'"),
        (lambda found: found.update(more=1), r"a: has 'more', wanted schema_version, run, tasks, summary, cells and"),
        (lambda found: found.update(schema_version=2), r"a: schema_version is 2 of type int, this release reads 1"),
        (without("schema_version"), r"a: schema_version is null, this release reads 1"),
        (lambda found: found.update(cells={}), r"a: cells is \{\} of type dict, wanted a list"),
        (lambda found: found["cells"].append(3), r"cells\[1\]: is 3 of type int, wanted an object"),
        (lambda found: found["cells"][0].pop("rates"), r"cells\[0\]: has no 'rates'"),
        (lambda found: found["cells"][0].update(x=1), r"cells\[0\]: has 'x'"),
        (lambda found: found["cells"][0]["scores"][0].pop("variant"), r"scores\[0\]: has no 'variant'"),
        (lambda found: found["cells"][0]["scores"][0].update(value="1"), r"value is '1' of type str, wanted a finite"),
        (lambda found: found["cells"][0]["scores"][0].update(value=2.0), r"summary does not follow from cells"),
        (lambda found: found.update(summary=[]), r"summary does not follow from cells"),
        (lambda found: found["run"].update(x=math.nan), r"a: holds NaN, which is no number"),
    ),
)
def test_what_is_no_result_is_told(tmp_path, change, message):
    """A key that is missing or unknown, a value of another kind, another version, a summary of other cells."""
    write_results(tmp_path / "a", one())
    found = json.loads((tmp_path / "a").read_text())
    change(found)
    (tmp_path / "a").write_text(json.dumps(found))
    with pytest.raises(EvaluationError, match=message):
        read_results(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "message"), ((b"{", "is no JSON"), (b"\xff", "is no JSON"), (b"3", "wanted an obj"))
)
def test_what_is_no_json_is_told(tmp_path, content, message):
    """With the file."""
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(EvaluationError, match=f"a: .*{message}"):
        read_results(tmp_path / "a")
