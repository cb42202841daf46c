"""The files of VL-ICL Bench: written and read back, and read strictly."""

import json
import re

import pytest
import torch

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.synthetic import chance, read_vl_icl, synthetic_task, write_vl_icl
from flamingo_blocks.vision.image_preprocess import read_rgb

pytest.importorskip("PIL", reason="needs the extra vision")
SMALL = {"queries": 5, "support": 4, "size": 16}
KINDS = [
    ("binding", "open_mi", {}),
    ("binding", "open_mi", {"names": 3, "answering": "closed"}),
    ("matching", "matching_mi", {"answering": "closed"}),
    ("operator_induction", "operator_induction", {"digits": "bars"}),
    ("operator_induction", "operator_induction_interleaved", {"interleaved": True}),
    ("counting", "clevr", {}),
]


def same_items(one, other):
    assert (one.id, one.texts, one.answers, one.candidates) == (other.id, other.texts, other.answers, other.candidates)
    assert len(one.media) == len(other.media)
    for drawn, read in zip(one.media, other.media, strict=True):
        assert torch.equal(drawn.data, read_rgb(read.data))


@pytest.mark.parametrize(("name", "called", "options"), KINDS)
def test_what_is_written_is_read_back(name, called, options, tmp_path):
    """Queries, shots in their order, answers and every pixel come back, with the seed of the task."""
    task = synthetic_task(name, seed=3, **SMALL, **options)
    assert write_vl_icl(tmp_path, task) == tmp_path / called
    reading = {key: value for key, value in options.items() if key in {"names", "answering"}}
    again = read_vl_icl(tmp_path, called, seed=3, **reading)
    assert (again.kind, again.metrics, again.max_new_tokens) == (task.kind, task.metrics, 15)
    for one, other in zip(task.queries, again.queries, strict=True):
        same_items(one, other)
        for shot, read in zip(one.support or (), other.support or (), strict=True):
            same_items(shot, read)
    for one, other in zip(task.support, again.support, strict=True):
        same_items(one, other)
    assert again.name.endswith("_closed") == (task.answering == "closed")


def test_a_picture_is_written_once(tmp_path):
    """Pictures that several shots share are one file."""
    task = synthetic_task("matching", **SMALL)
    home = write_vl_icl(tmp_path, task)
    assert len(list((home / "query").iterdir())) == 10
    used = {segment.url for query in task.queries for shot in query.support for segment in shot.media}
    assert len(list((home / "support").iterdir())) == len(used)


def write(folder, task, queries, support=()):
    (folder / task).mkdir()
    (folder / task / "query.json").write_text(json.dumps(queries))
    (folder / task / "support.json").write_text(json.dumps(list(support)))


def test_the_official_rows_are_read(tmp_path):
    """Rows as the benchmark has them, without ids or rules, five classes of which two are in play."""
    names = ["dax", "wug", "fep", "zib", "gorp"]
    support = {name: {"images": [f"{name}/{place}.jpg" for place in range(5)], "caption": "a dog"} for name in names}
    row = {"image": ["query/0.jpg"], "question": "This is a", "answer": "dax", "classes": names, "support": support}
    write(tmp_path, "open_mi", [row, row])
    task = read_vl_icl(tmp_path, "open_mi")
    assert [query.id for query in task.queries] == ["0", "1"]
    query = task.queries[0]
    assert len(query.support) == 10
    first, second = query.support[0].answers[0], query.support[1].answers[0]
    assert "dax" in {first, second} and first != second
    assert [shot.answers[0] for shot in query.support] == [first, second] * 5
    assert [shot.media[0].url for shot in query.support[:3]] == [f"{first}/0.jpg", f"{second}/0.jpg", f"{first}/1.jpg"]
    assert chance(task) == 50
    five = read_vl_icl(tmp_path, "open_mi", names=5, answering="closed")
    assert set(five.queries[0].candidates) == set(names)
    assert five.name == "open_mi_5_names_closed"


def test_the_operator_of_the_query_picks_the_answers(tmp_path):
    """Shots show sum, difference or product, as the query has it; chance is the share of the commonest answer."""
    support = [{"id": 7, "image": ["s.jpg"], "question": "?", "answer": [5, 1, 6]}]
    queries = [
        {"id": place, "image": ["q.jpg"], "question": "?", "answer": 4, "operator": operator}
        for place, operator in enumerate("+-xx")
    ]
    queries[3]["answer"] = 9
    write(tmp_path, "operator_induction", queries, support)
    task = read_vl_icl(tmp_path, "operator_induction")
    assert [query.support[0].answers[0] for query in task.queries] == ["5", "1", "6", "6"]
    assert chance(task) == 75


def test_pairs_without_a_rule_are_shots_of_all(tmp_path):
    """A pair that matches stands before its pair that does not, in an order drawn for each query."""
    side = {"image": ["a.jpg", "b.jpg"], "question": "match?"}
    support = [{"same": {**side, "answer": "yes"}, "diff": {**side, "answer": "no"}} for _ in range(6)]
    write(tmp_path, "matching_mi", [{**side, "answer": "Yes"}] * 3, support)
    task = read_vl_icl(tmp_path, "matching_mi")
    orders = [[shot.id for shot in query.support] for query in task.queries]
    assert all([id_.partition("-")[2] for id_ in order] == ["yes", "no"] * 6 for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    assert len(task.queries[0].media) == 2


def test_pictures_are_found_from_the_folder_of_all_tasks_and_from_that_of_the_task(tmp_path):
    """A path is one from the folder given, or from the folder of the task; a missing file is left to who reads it."""
    rows = [
        {"id": place, "image": path, "question": "?", "answer": "1"}
        for place, path in enumerate(["clevr/a.png", ["b.png"], ["c.png"]])
    ]
    write(tmp_path, "clevr", rows, rows)
    for name in ("a", "b"):
        (tmp_path / "clevr" / f"{name}.png").write_bytes(b"")
    task = read_vl_icl(tmp_path, "clevr")
    assert [query.media[0].url for query in task.queries] == ["clevr/a.png", "clevr/b.png", "c.png"]
    assert task.queries[1].media[0].data == tmp_path / "clevr" / "b.png"


ROW = {"image": ["a.png"], "question": "?", "answer": "1"}
NAMED = {"dax": {"images": ["d.png"]}, "wug": {"images": ["w.png"]}}


@pytest.mark.parametrize(
    ("task", "queries", "support", "message"),
    [
        ("clevr", [{"image": ["a.png"], "answer": "1"}], [], "row[0]: has no 'question', wanted a text"),
        ("clevr", [{**ROW, "image": []}], [], "row[0]: image is [] of type list, wanted one picture at least"),
        ("clevr", [{**ROW, "image": [3]}], [], "row[0]: image[0] is 3 of type int, wanted a text"),
        ("clevr", [{**ROW, "id": "a"}, {**ROW, "id": "a"}], [], "id 'a' stands at"),
        ("clevr", [ROW], [{**ROW, "id": 1}, {**ROW, "id": 1}], "id '1' stands at"),
        ("clevr", [ROW], ["no row"], "row[0]: holds 'no row' of type str, wanted an object"),
        ("open_mi", [{**ROW, "classes": ["dax"], "support": NAMED}], [], "wanted pictures of '1' too"),
        (
            "open_mi",
            [{**ROW, "answer": "dax", "classes": ["dax", "zib"], "support": NAMED}],
            [],
            "wanted pictures of 'zib' too, which is a class or the answer",
        ),
        (
            "open_mi",
            [{**ROW, "answer": "dax", "classes": ["dax"], "support": {"dax": NAMED["dax"]}}],
            [],
            "row[0]: classes is ['dax'] of type list, wanted 2 of them, as many as names=",
        ),
        (
            "open_mi",
            [{**ROW, "answer": "dax", "classes": ["dax"], "support": {**NAMED, "wug": {}}}],
            [],
            "row[0], support['wug']: has no 'images', wanted a list",
        ),
        ("matching_mi", [ROW], [], "row[0]: answer is '1' of type str, wanted yes or no"),
        ("matching_mi", [{**ROW, "answer": "no"}], [], "wanted one that support.json has: none"),
        ("matching_mi", [], [{"same": ROW}], "row[0]: has no 'diff', wanted an object"),
        ("matching_mi", [], [{"same": {}, "diff": ROW}], "row[0], same: has no 'image'"),
        ("operator_induction", [ROW], [], "row[0]: has no 'operator'"),
        ("operator_induction", [{**ROW, "operator": "/"}], [], "operator is '/' of type str, wanted one of +, -, x"),
        ("operator_induction", [], [ROW], "row[0]: answer is '1' of type str"),
        ("operator_induction", [], [{**ROW, "answer": [1, 2]}], "wanted three whole numbers: sum, difference, product"),
    ],
)
def test_a_wrong_row_is_told_with_file_and_key(task, queries, support, message, tmp_path):
    """The error says where it stands and what was wanted, never a `KeyError`."""
    write(tmp_path, task, queries, support)
    with pytest.raises(EvaluationError, match=re.escape(message)):
        read_vl_icl(tmp_path, task)


def test_what_cannot_be_read_or_written_is_refused(tmp_path):
    """Unknown tasks, closed answers without a list, and files that are not there."""
    with pytest.raises(ValueError, match="task is 'cobsat', wanted one of 'open_mi'"):
        read_vl_icl(tmp_path, "cobsat")
    with pytest.raises(ValueError, match="answering is 'closed', but 'clevr' has no list of answers"):
        read_vl_icl(tmp_path, "clevr", answering="closed")
    with pytest.raises(EvaluationError, match=r"query.json is missing; the folder does not exist"):
        read_vl_icl(tmp_path, "clevr")
    write(tmp_path, "clevr", [ROW], [ROW])
    with pytest.raises(ValueError, match="task is 'clevr', wanted one of synthetic_task: binding"):
        write_vl_icl(tmp_path, read_vl_icl(tmp_path, "clevr"))
