"""Area under the curve: its laws, the worked cases, and scikit-learn on drawn scores."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics import RocAuc, roc_auc
from tests.evaluation.metrics.answered import item, said

CASES = [
    ("0011", [0.1, 0.4, 0.35, 0.8], 0.75),
    ("10101", [0.9, 0.9, 0.2, 0.2, 0.5], 0.5),
    ("0101", [0.5] * 4, 0.5),
    ("1100", [0.1, 0.2, 0.3, 0.4], 0.0),
    ("01101001", [0.2, 0.2, 0.9, 0.4, 0.4, 0.1, 0.8, 0.6], 0.6875),
]
SCORED = st.lists(
    st.tuples(st.one_of(st.sampled_from([-1.5, 0.0, 0.5]), st.floats(-30, 30)), st.integers(0, 1)), min_size=2
).filter(lambda rows: len({label for _, label in rows}) == 2)


def area(rows):
    return roc_auc([score for score, _ in rows], [label for _, label in rows])


@pytest.mark.parametrize(("labels", "scores", "expected"), CASES)
def test_worked_cases(labels, scores, expected):
    """Areas of small sets, with ties, are known."""
    assert roc_auc(scores, [int(label) for label in labels]) == expected


@given(SCORED, st.randoms(use_true_random=False))
def test_the_area_depends_on_the_order_of_scores_alone(rows, random):
    """Items in another order and scores under a rising map leave the area; scores turned round take it from 1."""
    found = area(rows)
    assert area(random.sample(rows, len(rows))) == found
    places = {score: place for place, score in enumerate(sorted({score for score, _ in rows}))}
    assert area([(2.0 ** places[score], label) for score, label in rows]) == found
    assert area([(-score, label) for score, label in rows]) == pytest.approx(1 - found, abs=1e-12)
    assert area([(label, label) for _, label in rows]) == 1


@given(SCORED)
def test_scikit_learn_gives_the_same_area(rows):
    """The area is within 1e-12 of scikit-learn's."""
    metrics = pytest.importorskip("sklearn.metrics")
    expected = metrics.roc_auc_score([label for _, label in rows], [score for score, _ in rows])
    assert area(rows) == pytest.approx(expected, abs=1e-12)


def asked(*rows):
    items = [
        item(name=str(place), **({} if label is None else {"label": label})) for place, (label, *_) in enumerate(rows)
    ]
    return items, [said(name=str(place), log_probs=tuple(row[1:])) for place, row in enumerate(rows)]


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(-40, 0), st.floats(-40, 0)), min_size=2))
def test_the_metric_ranks_by_the_difference_of_log_probabilities(rows):
    """The score is a hundred times the area of log p(yes) - log p(no), whichever of the two is listed first."""
    labels = [label for label, *_ in rows]
    assume(len(set(labels)) == 2)
    expected = 100 * roc_auc([yes - no for _, yes, no in rows], labels)
    assert RocAuc().score(*asked(*rows)).value == expected
    turned = [(label, no, yes) for label, yes, no in rows]
    assert RocAuc(candidates=("no", "yes")).score(*asked(*turned)).value == expected


def test_differences_that_exponentials_would_lose_are_seen():
    """Answers of nearly no probability are still told apart: nothing is exponentiated."""
    score = RocAuc().score(*asked((1, -1000.0, -1200.0), (0, -1000.0, -1100.0)))
    assert score.value == 100


def test_items_without_labels_do_not_count():
    """Old test files have no labels; without any, there is no score."""
    items, predictions = asked((1, -1.0, -2.0), (None, -1.0, -2.0), (0, -2.0, -1.0))
    score = RocAuc().score(items, predictions)
    assert score.value == 100
    assert score.counts == {"asked": 3, "scored": 2, "positive": 1, "without_answers": 1, "of_one_label": 0}
    assert RocAuc().score(items[1:2], predictions[1:2]).value is None


@given(st.lists(st.sampled_from([None, 0, 1]), max_size=5))
def test_labels_of_one_class_are_no_score_and_no_task(labels):
    """Queries all of one label are refused before they are asked; a few that were asked are counted, and no error."""
    items, predictions = asked(*((label, -1.0, -2.0) for label in labels))
    score, there = RocAuc().score(items, predictions), [label for label in labels if label is not None]
    assert (score.value is None) == (len(set(there)) < 2)
    one = len(there) if len(set(there)) == 1 else 0
    assert (score.counts["of_one_label"], score.counts["scored"]) == (one, len(there) - one)
    if one:
        with pytest.raises(EvaluationError, match=f"each of the {one} queries with a label has label {there[0]}, and"):
            RocAuc().check_queries(items)
    else:
        RocAuc().check_queries(items)


def test_what_is_wrong_is_told_with_the_query():
    """One class, other labels, missing and infinite log-probabilities are refused by name."""
    with pytest.raises(EvaluationError, match="labels has 2 positives and 0 negatives"):
        roc_auc([0.1, 0.2], [1, 1])
    with pytest.raises(ValueError, match=r"labels\[1\] is 2, wanted 0 or 1"):
        roc_auc([0.1, 0.2], [1, 2])
    with pytest.raises(ValueError, match=r"scores\[0\] is nan"):
        roc_auc([math.nan, 0.2], [1, 0])
    with pytest.raises(ValueError, match="scores has 1 items, labels 2"):
        roc_auc([0.1], [1, 0])
    for bad in (math.nan, math.inf, -math.inf):
        with pytest.raises(EvaluationError, match=f"query '1' has a log-probability of {bad} for candidate 0"):
            RocAuc().score(*asked((1, -1.0, -2.0), (0, bad, -1.0)))
    with pytest.raises(EvaluationError, match="query '0' has log-probabilities of 1 candidates, wanted 2"):
        RocAuc().score(*asked((1, -1.0)))
    with pytest.raises(EvaluationError, match="query '0' has the label 3, wanted 0 or 1"):
        RocAuc().score(*asked((3, -1.0, -2.0)))
    with pytest.raises(EvaluationError, match=r"query '0' has the label \[1\], wanted 0 or 1"):
        RocAuc().check_queries(asked(([1], -1.0, -2.0))[0])
    items, predictions = asked((1, -1.0, -2.0))
    with pytest.raises(EvaluationError, match="query '0' has numbers of tokens"):
        RocAuc(normalise="mean").score(items, predictions)
