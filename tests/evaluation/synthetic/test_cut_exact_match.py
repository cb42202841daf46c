"""The rules of VL-ICL Bench for answers, and the numbers that it sums a curve up in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Metric
from flamingo_blocks.evaluation.synthetic import CutExactMatch, cut_answer, vl_icl_summary


def pair(answer, written, raw=None):
    item = TaskItem(id="0", media=(), answers=(answer,))
    return item, Prediction(task="t", id="0", shots=0, seed=0, answer=written, raw=raw)


def scored(rule, answer, written, raw=None):
    item, prediction = pair(answer, written, raw)
    return CutExactMatch(rule).score([item], [prediction]).value


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (" dax ", "dax"),
        ("dax. wug", "dax"),
        ("dax. wug\nwug", "dax. wug"),  # a line break comes before a period, wherever it is
        ("\n\ndax\nwug", "dax"),
        ("dax \nwug", "dax "),  # and what is left is not stripped again
        (".5 dax", ".5 dax"),  # a period at the start cuts nothing
        ("", ""),
    ],
)
def test_the_cut(text, kept):
    """Stripped, then up to the first line break, else up to the first period."""
    assert cut_answer(text) == kept


@given(st.text())
def test_the_cut_takes_away_and_adds_nothing(text):
    """What is kept is a beginning of the stripped text, without a line break."""
    kept = cut_answer(text)
    assert text.strip().startswith(kept)
    assert "\n" not in kept


@pytest.mark.parametrize(
    ("rule", "answer", "written", "value"),
    [
        ("exact", "dax", "Dax.", 100),
        ("exact", "dax", "a dax", 0),
        ("contains_yes", "yes", "Yes, they do", 100),
        ("contains_yes", "no", "no", 100),
        ("contains_yes", "no", "", 100),
        ("contains_yes", "no", "yesterday", 0),
        ("contains_yes", "yes", "they do. yes", 0),
        ("first_integer", "12", "it is 12, I think", 100),
        ("first_integer", "12", "7 + 5 = 12", 0),
        ("first_integer", "3", "-3", 100),
        ("first_integer", "3", "three", 0),
        ("first_integer", "3", "Well. 3", 0),
    ],
)
def test_each_rule_on_cases_worked_by_hand(rule, answer, written, value):
    """Exact, yes among the words, or the first run of digits, after the cut."""
    assert scored(rule, answer, written) == value


def test_a_line_break_that_the_clean_up_folded_still_cuts():
    """Where what was written goes on in a second line, only its first counts, as in the benchmark."""
    assert scored("exact", "dax", "dax This is a wug", raw=" dax\nThis is a wug") == 100
    assert scored("exact", "dax", "dax This is a wug", raw=" dax This is a wug") == 0
    assert scored("exact", "dax", "dax", raw=" dax<EOC>") == 100


@given(st.lists(st.tuples(st.sampled_from(["dax", "wug"]), st.sampled_from(["dax", "wug", "Dax."])), min_size=1))
def test_the_score_is_the_mean_whatever_the_order(answers):
    """The score is the mean over items and does not depend on their order; equal answers give 100."""
    rows = [
        (
            TaskItem(id=str(place), media=(), answers=(right,)),
            Prediction(task="t", id=str(place), shots=0, seed=0, answer=written),
        )
        for place, (right, written) in enumerate(answers)
    ]
    one, other = (CutExactMatch().score(*map(list, zip(*each, strict=True))) for each in (rows, rows[::-1]))
    assert one.value == pytest.approx(sum(one.per_item) / len(rows))
    assert one.value == pytest.approx(other.value)
    assert one.per_item == other.per_item[::-1]


def test_items_without_answers_do_not_count():
    """They are counted apart, and a split without any has no score."""
    item, prediction = TaskItem(id="0", media=()), Prediction(task="t", id="0", shots=0, seed=0, answer="dax")
    score = CutExactMatch().score([item], [prediction])
    assert (score.value, score.per_item, dict(score.counts)) == (None, (None,), {"scored": 0, "without_answer": 1})


def test_what_does_not_fit_is_refused(without_shape_checks):
    """Another rule, answers that are neither yes nor no, and predictions of other items."""
    with pytest.raises(ValueError, match="rule is 'close', wanted one of 'exact', 'contains_yes', 'first_integer'"):
        CutExactMatch("close")
    with pytest.raises(ValueError, match="the answer of item '0' is 'dax', wanted yes or no"):
        scored("contains_yes", "dax", "dax")
    item, _ = pair("dax", "dax")
    with pytest.raises(ValueError, match="items has 1 queries, predictions 0"):
        CutExactMatch().score([item], [])


def test_it_is_a_metric_that_names_its_rule():
    """It satisfies the protocol, and scores of different rules are told apart."""
    assert isinstance(CutExactMatch(), Metric)
    assert CutExactMatch("first_integer").variant == "accuracy(vl-icl cut, first integer)"
    item, prediction = pair("dax", "dax")
    assert CutExactMatch().score([item], [prediction]).variant == CutExactMatch().variant


@given(
    st.dictionaries(st.sampled_from([1, 2, 4, 8]), st.floats(0, 100), min_size=1), st.floats(0, 100), st.floats(-9, 9)
)
def test_a_summary_moves_with_its_curve(scores, zero, by):
    """Best and 0-shot move with the whole curve; the gain stays, and is 0 for a flat one."""
    curve = {0: zero, **scores}
    one, moved = vl_icl_summary(curve), vl_icl_summary({shots: score + by for shots, score in curve.items()})
    assert one.best == max(curve.values())
    assert curve[one.best_shots] == one.best
    assert moved.efficiency == pytest.approx(one.efficiency, abs=1e-9)
    assert moved.zero_shot == zero + by
    flat = vl_icl_summary(dict.fromkeys(curve, zero))
    assert (flat.efficiency, flat.best_shots) == (pytest.approx(0, abs=1e-9), 0)


def test_a_curve_without_its_beginning_is_refused():
    """0 shots and one other number are needed."""
    with pytest.raises(ValueError, match="curve has the numbers of shots 2, 4, wanted 0 and one more"):
        vl_icl_summary({4: 1.0, 2: 1.0})
    with pytest.raises(ValueError, match="numbers of shots 0, wanted"):
        vl_icl_summary({0: 1.0})
