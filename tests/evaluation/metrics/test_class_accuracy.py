"""Choices among candidates: the laws, and how ties and missing answers count."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import ClassAccuracy, StarAccuracy, candidate_scores
from tests.evaluation.metrics.answered import said

CLASSES = tuple("abcdefg")
ROWS = st.lists(
    st.tuples(st.sampled_from(CLASSES), st.lists(st.integers(-9, 0).map(float), min_size=7, max_size=7)), min_size=1
)


def asked(rows, **facts):
    items = [TaskItem(id=str(k), media=(), answers=(right,), facts=facts) for k, (right, _) in enumerate(rows)]
    return items, [said(name=str(k), log_probs=tuple(scores)) for k, (_, scores) in enumerate(rows)]


@given(ROWS, st.randoms(use_true_random=False))
def test_the_class_is_sought_among_the_likeliest(rows, random):
    """Top-1 and top-5 are those of a stable sort, their mean is the value, ties at the top are counted; no order of
    the items changes it.
    """
    orders = [sorted(range(7), key=lambda k: -scores[k]) for _, scores in rows]
    first = sum(CLASSES[order[0]] == right for order, (right, _) in zip(orders, rows, strict=True))
    five = sum(right in {CLASSES[k] for k in order[:5]} for order, (right, _) in zip(orders, rows, strict=True))
    score = ClassAccuracy(candidates=CLASSES, top=(1, 5)).score(*asked(rows))
    assert score.variant == "mean of top-1 and top-5(sum of log-probs)"
    assert score.parts["top-1"] == pytest.approx(100 * first / len(rows))
    assert score.parts["top-5"] == pytest.approx(100 * five / len(rows))
    assert score.value == pytest.approx((score.parts["top-1"] + score.parts["top-5"]) / 2)
    assert score.counts["ties"] == sum(scores.count(max(scores)) > 1 for _, scores in rows)
    assert (
        ClassAccuracy(candidates=CLASSES, top=(1, 5)).score(*asked(random.sample(rows, len(rows)))).value == score.value
    )


def test_the_mean_over_tokens_may_choose_otherwise():
    """A long candidate wins by the mean and loses by the sum."""
    items = [TaskItem(id="0", media=(), answers=("tiger shark",))]
    predictions = [said(log_probs=(-2.0, -3.0), num_tokens=(1, 3))]
    names = ("tiger", "tiger shark")
    assert ClassAccuracy(candidates=names).score(items, predictions).value == 0
    assert ClassAccuracy(candidates=names, normalise="mean").score(items, predictions).value == 100


def test_star_is_the_mean_over_types_with_the_mean_over_questions_beside():
    """Three right of four questions, one of one type wrong: 75 over questions, 83.3 over types."""
    kinds = ["Interaction", "Interaction", "Interaction", "Sequence"]
    items = [
        TaskItem(id=str(k), media=(), answers=("x",), candidates=("x", "y"), facts={"question_type": kind})
        for k, kind in enumerate(kinds)
    ]
    predictions = [said(name=str(k), log_probs=(-1.0, -2.0 if k else 0.0)) for k in range(4)]
    score = StarAccuracy().score(items, predictions)
    assert score.value == pytest.approx(100 * (2 / 3 + 1) / 2) and not score.per_item
    assert score.parts == {"Interaction": pytest.approx(200 / 3), "Sequence": 100, "micro": 75}
    assert score.counts == {"asked": 4, "scored": 4, "without_answers": 0, "ties": 0}


def test_items_without_answers_do_not_count():
    """A test split gives no value; the place of the class may stand in for its name."""
    items = [TaskItem(id="0", media=()), TaskItem(id="1", media=(), facts={"class_index": 1})]
    predictions = [said(name="0"), said(name="1", log_probs=(-2.0, -1.0))]
    score = ClassAccuracy(candidates=("a", "b")).score(items, predictions)
    assert score.value == 100 and score.per_item == (None, 100) and score.counts["without_answers"] == 1
    assert ClassAccuracy().score(items[:1], predictions[:1]).value is None
    items = [TaskItem(id="0", media=(), facts={"question_type": "Sequence"})]
    assert StarAccuracy().score(items, predictions[:1]).value is None


def test_what_is_wrong_is_told_with_the_query():
    """Answers that are no candidate, types and log-probabilities that are missing or not finite are refused by name."""
    metric = ClassAccuracy(candidates=("a", "b"))
    item = TaskItem(id="7", media=(), answers=("c",))
    with pytest.raises(EvaluationError, match="query '7' has the answer 'c', which is none of its 2 candidates"):
        metric.score([item], [said(name="7", log_probs=(-1.0, -2.0))])
    item = TaskItem(id="7", media=(), facts={"class_index": 2})
    with pytest.raises(EvaluationError, match="query '7' has class_index 2, wanted a whole number from 0 to 1"):
        metric.score([item], [said(name="7", log_probs=(-1.0, -2.0))])
    for bad in (math.nan, math.inf):
        with pytest.raises(EvaluationError, match=f"query '7' has a log-probability of {bad} for candidate 1"):
            candidate_scores(said(name="7", log_probs=(-1.0, bad)), number=2)
    with pytest.raises(EvaluationError, match=r"query '7' has numbers of tokens \(1, 0\) for 2 candidates"):
        candidate_scores(said(name="7", log_probs=(-1.0, -2.0), num_tokens=(1, 0)), number=2, normalise="mean")
    item = TaskItem(id="7", media=(), answers=("a",), candidates=("a", "b"))
    with pytest.raises(EvaluationError, match="query '7' lacks the fact 'question_type'"):
        StarAccuracy().score([item], [said(name="7", log_probs=(-1.0, -2.0))])
    with pytest.raises(ValueError, match=r"top is \(0,\), wanted numbers of candidates from 1 up"):
        ClassAccuracy(top=(0,))
