"""A task of one's own is read from one file and its rows."""

import csv
import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError, MissingDependencyError
from flamingo_blocks.evaluation.tasks import named_metrics
from flamingo_blocks.evaluation.tasks.custom import read_custom_task

SPEC = {
    "name": "signs",
    "kind": "question",
    "answering": "open",
    "metric": "exact_match",
    "rows": "test.jsonl",
    "support": "train.jsonl",
    "media_folder": "images",
    "fields": {"id": "number", "image": "file", "question": "asked", "answers": "said"},
}
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=8)


def write(folder, spec, *, test, train=(), name="task.json"):
    for file, rows in (("test.jsonl", test), ("train.jsonl", train)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / name).write_text(json.dumps(spec))  # JSON is YAML
    return folder / name


def row(number, **more):
    return {"number": number, "file": f"{number}.png", "asked": "What?", "said": ["a sign", "sign"], **more}


@given(questions=st.lists(TEXT, min_size=1, max_size=4), answers=st.lists(TEXT, min_size=1, max_size=3))
def test_rows_read_back(questions, answers):
    """Whatever the texts, an item has those that its fields name, and the same from lines, a list and YAML."""
    rows = [row(number, asked=question, said=answers, other=1) for number, question in enumerate(questions)]
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = write(folder, SPEC, test=rows, train=[row(99)])
        (folder / "test.json").write_text(json.dumps(rows))
        specs = [file, folder / "task.yaml", folder / "list.json"]
        specs[1].write_text(json.dumps(SPEC))
        specs[2].write_text(json.dumps({**SPEC, "rows": "test.json"}))
        for task in map(read_custom_task, specs):
            assert (task.name, task.kind, task.answering, task.num_support) == ("signs", "question", "open", 2048)
            assert [item.id for item in task.support] == ["99"]
            for item, expected in zip(task.queries, rows, strict=True):
                assert (item.id, item.answers) == (str(expected["number"]), tuple(answers))
                assert dict(item.texts) == {"question": expected["asked"]}
                assert (item.media[0].url, item.cluster) == (expected["file"], expected["file"])
                assert item.media[0].data == folder / "images" / expected["file"]


def test_a_closed_task_of_clips_in_csv(tmp_path):
    """Cuts, several columns of answers of which empty ones do not count, facts, classes and settings."""
    spec = {
        "name": "steps",
        "kind": "question",
        "answering": "closed",
        "metric": ["class_top1", "exact_match"],
        "rows": "test.csv",
        "num_support": 64,
        "max_new_tokens": 3,
        "demo_answer": "majority",
        "fields": {
            "id": "id", "clip": "video", "start": "from", "end": "to", "question": "q", "answers": ["a1", "a2"],
            "candidates": ["c1", "c2", "c3"], "cluster": "cook", "class": "dish",
            "facts": {"question_type": "dish", "relevance": "r"},
        },
    }  # fmt: skip
    with (tmp_path / "test.csv").open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow("id video from to q a1 a2 c1 c2 c3 cook dish r".split())
        writer.writerow("7;soup.mp4;1.5;4;What next?;stir;;stir;wait, then stir; ;Ann;soup;[0.5, 1]".split(";"))
    (tmp_path / "task.json").write_text(json.dumps(spec))
    task = read_custom_task(tmp_path / "task.json")
    (item,) = task.queries
    assert (item.id, item.answers, item.candidates) == ("7", ("stir",), ("stir", "wait, then stir"))
    assert item.media[0].url == "soup.mp4#1.5-4"
    assert item.media[0].metadata == {"start_s": 1.5, "end_s": 4.0}
    assert (item.cluster, task.classes(item)) == ("Ann", "soup")
    assert item.facts == {"class": "soup", "question_type": "soup", "relevance": [0.5, 1]}
    assert (task.num_support, task.max_new_tokens, task.demo_answer) == (64, 3, "majority")
    assert len(task.metrics) == 2


def test_yaml_values_are_texts(tmp_path):
    """`yes` and `no` are answers, and a number is a number where one is wanted; several images are one item."""
    rows = [
        {"n": 1, "files": ["a.png", "b.png"], "label": 1, "ocr": "hi", "a": "no"},
        {"n": 2, "files": ["c.png"], "label": 0, "ocr": "ho", "a": "yes"},
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    (tmp_path / "task.yaml").write_text(
        "name: nice\nkind: memes\nanswering: closed\nmetric: roc_auc\nrows: rows.json\ncandidates: [yes, no]\n"
        "num_support: 12\nfields: {id: n, images: files, ocr: ocr, answers: a, facts: {label: label}}\n"
    )
    task = read_custom_task(tmp_path / "task.yaml")
    assert (task.candidates, task.num_support) == (("yes", "no"), 12)
    assert task.queries[0].facts == {"label": 1, "class_index": 1}
    assert [image.data for image in task.queries[0].media] == [tmp_path / "a.png", tmp_path / "b.png"]


def test_yaml_needs_its_package(tmp_path, monkeypatch):
    """Without PyYAML the extra is named; JSON is read without it."""
    file = write(tmp_path, SPEC, test=[row(0)], train=[row(1)])
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert read_custom_task(file).name == "signs"
    with pytest.raises(MissingDependencyError, match="read_custom_task needs the package 'yaml'.*extra 'eval'"):
        read_custom_task(file.rename(tmp_path / "task.yaml"))


def test_every_metric_name_gives_a_metric():
    """The names that an error lists are all good."""
    for make in named_metrics.NAMED.values():
        assert callable(make(("yes", "no")).score)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kinds": "question"}, "'kinds' is no key of a task; the keys are name, kind"),
        ({"kind": "quiz"}, "kind is 'quiz'.*wanted one of caption, question"),
        ({"answering": "both"}, "answering is 'both'.*wanted one of open, closed"),
        ({"metric": "bleu"}, "metric is 'bleu'.*wanted one or some of cider, class_top1"),
        ({"metric": []}, r"metric is \[\].*wanted one or some of cider"),
        ({"metric": "roc_auc"}, "task.json: wanted two 'candidates' for roc_auc, the positive one first; found 0"),
        ({"metric": 3}, "metric is 3 of type int, wanted a text"),
        ({"name": None}, "name is missing, wanted a text"),
        ({"rows": "test.txt"}, "test.txt: wanted a file of rows that ends in .jsonl, .json or .csv"),
        ({"rows": "gone.csv"}, "gone.csv is missing; the folder has task.json, test.jsonl"),
        ({"support": "test.jsonl"}, "id '0' stands at .*test.jsonl, line 1 already"),
        ({"answering": "closed"}, "from 'candidates' or from 'fields', found neither"),
        ({"candidates": ["a", "b"]}, "answering is 'open'.*wanted 'closed', since there are candidates"),
        ({"candidates": ["a", "b", "a"]}, "task.json: candidate 2 is 'a', as candidate 0 is; give each text once"),
        ({"candidates": ["a", 1]}, r"candidates\[1\] is 1 of type int, wanted a text"),
        ({"num_support": 0}, "num_support is 0 of type int, wanted 1 or more"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many'.*wanted a number"),
        ({"demo_answer": "last"}, "demo_answer is 'last'.*wanted one of first, majority"),
        ({"kind": "memes"}, "fields: has no 'ocr', which a task of kind 'memes' is asked by"),
        ({"fields": "all"}, "fields is 'all' of type str, wanted an object"),
    ],
)
def test_a_wrong_key_is_told(change, said, tmp_path):
    """What is wrong in the file of a task is told with the key, and with what is known."""
    spec = {key: value for key, value in {**SPEC, **change}.items() if value is not None or key == "name"}
    with pytest.raises(EvaluationError, match=said):
        read_custom_task(write(tmp_path, spec, test=[row(0)], train=[row(1)]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"picture": "file"}, "'picture' is no part of an item; those are id, image"),
        ({"clip": "file"}, "fields: wanted one of image, images, clip; found id, image, question, answers, clip"),
        ({"start": "s"}, "fields: 'start' and 'end' are wanted together, of a clip"),
        ({"start": "s", "end": "e"}, "fields: 'start' and 'end' are wanted together, of a clip"),
        ({"id": None}, "fields: has no 'id', wanted a text"),
        ({"question": None}, "fields: has no 'question', which a task of kind 'question' is asked by"),
        ({"question": "q"}, "test.jsonl, line 1: has no 'q', wanted a text; its keys are number, file, asked, said"),
        ({"answers": "number"}, "line 1: number is 0 of type int, wanted a text"),
        ({"answers": ["said"]}, "line 1: said is .*wanted a text"),
        ({"facts": {"label": "gone"}}, "line 1: has no 'gone'; its keys are number"),
        ({"facts": "label"}, "fields: facts is 'label' of type str, wanted an object"),
        ({"image": "said"}, "line 1: said is .* of type list, wanted a text"),
    ],
)
def test_a_wrong_field_is_told(change, said, tmp_path):
    """What is wrong in the fields is told with the part, or with the row that lacks the key."""
    fields = {key: value for key, value in {**SPEC["fields"], **change}.items() if value is not None}
    with pytest.raises(EvaluationError, match=said):
        read_custom_task(write(tmp_path, {**SPEC, "fields": fields}, test=[row(0)], train=[row(1)]))


def test_an_answer_is_among_the_candidates(tmp_path):
    """Of a list for all, whose place of the answer the metric reads."""
    spec = {**SPEC, "answering": "closed", "candidates": ["sign", "tree"]}
    with pytest.raises(EvaluationError, match="line 1: the answer is 'a sign', wanted one of 'sign', 'tree'"):
        read_custom_task(write(tmp_path, spec, test=[row(0)], train=[row(1)]))


def test_candidates_of_a_row_are_told_with_their_place(tmp_path):
    """The error has file, row, query and candidate, before a model is asked."""
    fields = {**SPEC["fields"], "candidates": "choices"}
    spec = {**SPEC, "answering": "closed", "fields": fields}
    rows = [row(0, choices=["a", "b"]), row(1, choices=["a", "b", "a"])]
    with pytest.raises(EvaluationError, match="test.jsonl, line 2, query '1': candidate 2 is 'a', as candidate 0 is"):
        read_custom_task(write(tmp_path, spec, test=rows, train=[row(2, choices=["a", "a"])]))


def test_labels_of_one_class_are_refused(tmp_path):
    """The area of a task of one's own is not defined either."""
    spec = {**SPEC, "answering": "closed", "metric": "roc_auc", "candidates": ["a sign", "none"]}
    spec["fields"] = {**SPEC["fields"], "facts": {"label": "label"}}
    with pytest.raises(EvaluationError, match="task signs: each of the 2 queries with a label has label 1, "):
        read_custom_task(write(tmp_path, spec, test=[row(0, label=1), row(1, label=1)], train=[row(2, label=0)]))


def test_candidates_stand_in_one_place(tmp_path):
    """Candidates for all and candidates of each item exclude each other."""
    spec = {**SPEC, "answering": "closed", "candidates": ["a"], "fields": {**SPEC["fields"], "candidates": "said"}}
    with pytest.raises(EvaluationError, match="from 'candidates' or from 'fields', found both"):
        read_custom_task(write(tmp_path, spec, test=[row(0)], train=[row(1)]))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("task.yaml", "name: [", "task.yaml: is no YAML: "),
        ("task.json", "{", "task.json: is no JSON: "),
        ("task.yaml", "signs", "task.yaml: holds 'signs', wanted an object with name, kind"),
        ("task.json", "[]", r"task.json: holds \[\], wanted an object with name, kind"),
    ],
)
def test_a_file_that_is_no_object_is_told(name, text, said, tmp_path):
    """The file of a task is an object in YAML or JSON."""
    (tmp_path / name).write_text(text)
    with pytest.raises(EvaluationError, match=said):
        read_custom_task(tmp_path / name)
