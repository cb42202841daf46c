"""Predictions come back from their file as they were, and the file does not know in what order they came."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports import read_predictions, write_predictions

texts = st.text(st.characters(), max_size=12)
counts = st.integers(0, 40)
predictions = st.fixed_dictionaries(
    {  # built within the tests: the checks of shapes draw at random
        "task": st.sampled_from(["coco", "vqav2"]),
        "id": st.one_of(st.integers(0, 2000).map(str), texts),
        "shots": counts,
        "seed": st.integers(-3, 3),
        "control": st.sampled_from(["none", "blind"]),
        "shot_ids": st.lists(texts, max_size=3).map(tuple),
        "text_shots": counts,
        "dropped_shots": counts,
        "prompt": texts,
        "raw": st.none() | texts,
        "answer": texts,
        "stopped_by": st.sampled_from([None, "end_of_chunk", "end_of_text", "keyword", "length"]),
        "log_probs": st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3).map(tuple),
    }
)
many = st.lists(
    predictions,
    max_size=8,
    unique_by=lambda each: tuple(each[name] for name in ("task", "id", "shots", "seed", "control")),
)


def made(drawn):
    return [Prediction(**each) for each in drawn]


def line(**changes):
    values = {
        "task": "t", "id": "7", "shots": 0, "seed": 0, "control": "none", "shot_ids": [], "text_shots": 0,
        "dropped_shots": 0, "prompt": "", "raw": None, "answer": "", "stopped_by": None, "log_probs": [],
        "num_tokens": [],
    }  # fmt: skip
    return json.dumps({name: value for name, value in {**values, **changes}.items() if value is not ...})


@given(many)
def test_any_predictions_come_back(tmp_path_factory, drawn):
    """What is read is what was written, numbers to the last bit and texts to the last sign."""
    file, given_ones = tmp_path_factory.mktemp("law") / "predictions.jsonl", made(drawn)
    write_predictions(file, given_ones)
    found = read_predictions(file)
    assert sorted(found, key=lambda each: each.key) == sorted(given_ones, key=lambda each: each.key)


@given(many.flatmap(lambda each: st.tuples(st.just(each), st.permutations(each))))
def test_any_order_gives_the_same_bytes(tmp_path_factory, both):
    """The file is one of the predictions, not of the order that processes gave them in."""
    folder = tmp_path_factory.mktemp("law")
    for name, drawn in zip("ab", both, strict=True):
        write_predictions(folder / name, made(drawn))
    assert (folder / "a").read_bytes() == (folder / "b").read_bytes()


@given(predictions)
def test_one_prediction_is_one_line_for_any_program(tmp_path_factory, one):
    """No sign that some program takes for the end of a line stands within a line."""
    file = tmp_path_factory.mktemp("law") / "predictions.jsonl"
    write_predictions(file, made([one]))
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1


def test_ids_are_sorted_as_people_count(tmp_path):
    """Numbers inside of ids are compared as numbers, however long; task, shots, seed and control come first."""
    long = "9" * 5000  # more digits than `int` reads
    ids = ["9", "10", "010", long, "img_2", "img_10", "img_10_1", "", "b"]
    made = [Prediction(task="t", id=each, shots=0, seed=0) for each in ids]
    made += [Prediction(task="t", id="1", shots=10, seed=0), Prediction(task="t", id="1", shots=9, seed=1)]
    write_predictions(tmp_path / "a", made)
    found = [(each.shots, each.id) for each in read_predictions(tmp_path / "a")]
    assert [id_ for shots, id_ in found if shots == 0] == [
        "", "9", "010", "10", long, "b", "img_2", "img_10", "img_10_1",
    ]  # fmt: skip
    assert found[-2:] == [(9, "1"), (10, "1")]


def test_equal_predictions_are_equal_bytes(tmp_path):
    """A whole number or a zero with a sign, which equal a float, are written as that float."""
    for name, values in (("a", (0, -1)), ("b", (-0.0, -1.0))):
        write_predictions(tmp_path / name, [Prediction(task="t", id="7", shots=0, seed=0, log_probs=values)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_half_a_character_is_kept(tmp_path):
    """A cut emoji in a question file is no reason to lose a run; two halves side by side could not be told apart."""
    one = Prediction(task="t", id="7", shots=0, seed=0, prompt="a \ud83d b")
    write_predictions(tmp_path / "a", [one])
    assert read_predictions(tmp_path / "a") == [one]
    with pytest.raises(EvaluationError, match="two halves of one character"):
        write_predictions(tmp_path / "a", [Prediction(task="t", id="7", shots=0, seed=0, prompt="\ud83d\ude00")])
    assert read_predictions(tmp_path / "a") == [one]


@pytest.mark.parametrize("wrong", (math.nan, math.inf, -math.inf))
def test_what_is_no_number_is_not_written(tmp_path, wrong):
    """A log-probability that is not finite is an error that names the query; the old file stays."""
    write_predictions(tmp_path / "a", [])
    with pytest.raises(EvaluationError, match=r"'42000'\): log_probs\[1\] is (nan|inf|-inf) of type float, wanted"):
        write_predictions(tmp_path / "a", [Prediction(task="t", id="42000", shots=0, seed=0, log_probs=(0.0, wrong))])
    assert (tmp_path / "a").read_bytes() == b""


def test_a_key_comes_once(tmp_path):
    """Two predictions of one key are refused, written or read."""
    one = Prediction(task="t", id="7", shots=0, seed=0)
    with pytest.raises(EvaluationError, match=r"two of the key \('t', 0, 0, 'none', '7'\)"):
        write_predictions(tmp_path / "a", [one, one])
    (tmp_path / "a").write_text(f"{line()}\n{line(answer='b')}\n")
    with pytest.raises(EvaluationError, match=r"a, line 2: the key .*'7'\) stands in line 1 already"):
        read_predictions(tmp_path / "a")


@pytest.mark.parametrize(
    ("content", "message"),
    (
        ("{", r"line 1: is no JSON"),
        ("", r"line 1: is no JSON"),
        ("[1]", r"line 1: holds \[1\] of type list, wanted an object"),
        (line(id=...), r"line 1: has no 'id'"),
        (line(score=1), r"line 1: has 'score', which no prediction has"),
        (line(id=7), r"line 1: id is 7 of type int, wanted a text"),
        (line(shots=True), r"line 1: shots is True of type bool, wanted a whole number, 0 or more"),
        (line(shots=-1), r"line 1: shots is -1 of type int"),
        (line(seed=1.5), r"line 1: seed is 1.5 of type float, wanted a whole number"),
        (line(raw=3), r"line 1: raw is 3 of type int, wanted a text or null"),
        (line(stopped_by="hunger"), r"line 1: stopped_by is 'hunger' of type str, wanted one of None, end_of_chunk"),
        (line(shot_ids="12"), r"line 1: shot_ids is '12' of type str, wanted a list of texts"),
        (line(shot_ids=[1]), r"line 1: shot_ids\[0\] is 1 of type int"),
        (line(log_probs=["x"]), r"line 1: log_probs\[0\] is 'x' of type str, wanted a list of finite numbers"),
        (line(log_probs=[math.nan]), r"line 1: log_probs\[0\] is nan"),
        (line(num_tokens=[1]), r"line 1: num_tokens has 1 numbers, log_probs 0"),
    ),
)
def test_a_line_that_is_no_prediction_is_told(tmp_path, content, message):
    """With the line, the key, and what was found."""
    (tmp_path / "a").write_text(f"{content}\n")
    with pytest.raises(EvaluationError, match=message):
        read_predictions(tmp_path / "a")


def test_a_file_that_was_cut_off_is_told(tmp_path):
    """A last line without an end is an error here: such a file was written whole or changed since."""
    (tmp_path / "a").write_text(f"{line()}\n{line(id='8')}")
    with pytest.raises(EvaluationError, match=r"a, line 2: has no end"):
        read_predictions(tmp_path / "a")
    with pytest.raises(EvaluationError, match=r"b cannot be read"):
        read_predictions(tmp_path / "b")
