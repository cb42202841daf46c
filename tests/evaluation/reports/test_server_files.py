"""Answers as servers and scripts take them: every query of the split, in the layout of its task."""

import csv
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import Prediction, TaskItem
from flamingo_blocks.evaluation.reports import SERVER_FORMATS, write_server_file
from flamingo_blocks.evaluation.tasks import read_task
from flamingo_blocks.evaluation.tasks.rareact import rareact_caption
from tests.evaluation.tasks.official_files import WRITERS
from tests.evaluation.tasks.official_video_files import VIDEO_WRITERS

ANSWER = {"coco": "a dog", "vqav2": "Two dogs.", "okvqa": "a dog", "textvqa": "Stop", "vizwiz": "basil"}


def rows_of(file):
    return json.loads(file.read_text())


def said(task, id_, **more):
    return Prediction(task=task, id=id_, shots=4, seed=0, **more)


@pytest.mark.parametrize("name", sorted(ANSWER))
def test_every_query_of_official_files_has_a_row(name, tmp_path):
    """One answer is given, the others are empty; ids are those of the official files."""
    WRITERS[name](tmp_path / name)
    task = read_task(name, tmp_path)
    first, *others = task.queries
    write_server_file(tmp_path / "out.json", name, task.queries, [said(name, first.id, answer=ANSWER[name])])
    rows = rows_of(tmp_path / "out.json")
    key, value = rows[0]
    assert [str(row[key]) for row in rows] == [item.id for item in task.queries]
    assert rows[0][value] == {"vqav2": "2 dogs", "okvqa": "dog", "textvqa": "stop"}.get(name, ANSWER[name])
    assert all(row[value] == "" for row in rows[1:])
    assert len(rows) == 1 + len(others)


@given(scores=st.lists(st.floats(-50, 0), min_size=2, max_size=12))
def test_ranks_of_options_are_an_order(scores, tmp_path_factory):
    """Each rank comes once, the likeliest option has rank 1, and a likelier option never has a later one."""
    file = tmp_path_factory.mktemp("ranks") / "out.json"
    item = TaskItem(id="185565_3", media=(), candidates=tuple(map(str, range(len(scores)))))
    answered = said("visdial", item.id, log_probs=tuple(scores), num_tokens=(1,) * len(scores))
    write_server_file(file, "visdial", [item], [answered])
    (row,) = rows_of(file)
    assert (row["image_id"], row["round_id"]) == (185565, 3)
    assert sorted(row["ranks"]) == list(range(1, len(scores) + 1))
    for one, rank in zip(scores, row["ranks"], strict=True):
        assert all(other <= one or later < rank for other, later in zip(scores, row["ranks"], strict=True))


def test_dialogues_of_official_files_have_ranks(tmp_path):
    """VisDial's ids are image and round; a query that was not asked is told, for the server wants all."""
    VIDEO_WRITERS["visdial"](tmp_path / "visdial", media=False)
    task = read_task("visdial", tmp_path)
    scores = tuple(-float(place) for place in range(len(task.queries[0].candidates)))
    answered = [said("visdial", item.id, log_probs=scores, num_tokens=(1,) * len(scores)) for item in task.queries]
    write_server_file(tmp_path / "out.json", "visdial", task.queries, answered)
    assert all(row["ranks"] == list(range(1, len(scores) + 1)) for row in rows_of(tmp_path / "out.json"))
    with pytest.raises(EvaluationError, match="has no log-probability for each option; ask all queries"):
        write_server_file(tmp_path / "out.json", "visdial", task.queries, answered[1:])


def answered_rareact(folder):
    """The task of official files, and for each clip a score of each caption that both can be read from."""
    VIDEO_WRITERS["rareact"](folder / "rareact", media=False)
    task = read_task("rareact", folder)
    scores = {
        item.id: tuple(-1.0 - float(item.id) - len(text) / 64 for text in task.candidates) for item in task.queries
    }
    return task, [said("rareact", name, log_probs=own) for name, own in scores.items()]


@given(random=st.randoms(use_true_random=False))
def test_a_matrix_has_the_order_of_the_file_and_of_the_classes(random, tmp_path_factory):
    """RareAct's script finds the score of a clip's class at its line and its `class_id`, whatever order came."""
    folder = tmp_path_factory.mktemp("matrix")
    task, answered = answered_rareact(folder)
    write_server_file(folder / "out.npy", "rareact", task.queries, random.sample(answered, len(answered)))
    found = np.load(folder / "out.npy")
    with (folder / "rareact" / "rareact.csv").open(newline="") as opened:
        lines = list(csv.DictReader(opened))
    assert found.shape == (len(lines), len(task.candidates))
    assert found.dtype == np.float64
    for line, row in zip(lines, found, strict=True):
        caption = rareact_caption(line["verb"], line["noun"])
        assert row[int(line["class_id"])] == -1 - float(line["id"]) - len(caption) / 64


def test_a_matrix_wants_every_clip_and_class(tmp_path):
    """A clip that was not asked and scores of other classes are told, and nothing is written."""
    task, answered = answered_rareact(tmp_path)
    file = tmp_path / "out.npy"
    with pytest.raises(EvaluationError, match="query '0' of rareact was not asked, and the matrix has a row for each"):
        write_server_file(file, "rareact", task.queries, answered[1:])
    fewer = [said("rareact", one.id, log_probs=one.log_probs[1:]) for one in answered]
    with pytest.raises(EvaluationError, match="query '0' of rareact has log-probabilities of 4 classes, wanted 5"):
        write_server_file(file, "rareact", task.queries, fewer)
    assert not file.exists()


def test_what_no_server_takes_is_refused(tmp_path):
    """Tasks without a server, answers of two cells and of unknown queries are told, and nothing is written."""
    item, file = TaskItem(id="1", media=()), tmp_path / "out.json"
    with pytest.raises(EvaluationError, match="task is 'star', of which no server is known; wanted of coco, visdial"):
        write_server_file(file, "star", [item], [])
    two = [said("vqav2", "1"), Prediction(task="vqav2", id="1", shots=8, seed=0)]
    with pytest.raises(EvaluationError, match="predictions are of 2 cells"):
        write_server_file(file, "vqav2", [item], two)
    with pytest.raises(EvaluationError, match="predictions has '2', which is no query among items"):
        write_server_file(file, "vqav2", [item], [said("vqav2", "2")])
    assert not file.exists()
    assert set(ANSWER) | {"visdial", "rareact"} == set(SERVER_FORMATS)
