"""Rankings of candidates: laws, the worked cases, and scikit-learn on drawn rankings."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics import Ndcg, ndcg
from tests.evaluation.metrics.answered import item, said

CASES = [
    ([0.1, 0.9, 0.4, 0.7], [0, 0.5, 1, 0.2], 0.795630),
    ([0.9, 0.1, 0.4, 0.7], [0, 0.5, 1, 0.2], 0.442389),
    ([1, 2, 3, 4], [1, 0, 0, 0], 0),
    ([1, 2, 3, 4, 5, 6], [0.2, 0, 0.4, 0.6, 0, 1], 0.884410),
]
RANKED = st.lists(
    st.tuples(st.floats(-20, 0), st.sampled_from([0, 0, 0.2, 0.5, 1])),
    min_size=2,
    max_size=20,
    unique_by=lambda row: row[0],
).filter(lambda rows: any(relevance for _, relevance in rows))


def gain(rows):
    return ndcg([score for score, _ in rows], [relevance for _, relevance in rows])


@pytest.mark.parametrize(("scores", "relevance", "expected"), CASES)
def test_worked_cases(scores, relevance, expected):
    """Gains of small rankings are known to six digits."""
    assert ndcg(scores, relevance) == pytest.approx(expected, abs=1e-6)


@given(RANKED, st.randoms(use_true_random=False))
def test_the_gain_depends_on_the_order_of_scores_alone(rows, random):
    """Candidates in another order and scores under a rising map leave it; ranking by relevance gives 1."""
    found = gain(rows)
    assert gain(random.sample(rows, len(rows))) == pytest.approx(found, abs=1e-12)
    places = sorted(score for score, _ in rows)
    assert gain([(3.0 ** places.index(score), relevance) for score, relevance in rows]) == pytest.approx(
        found, abs=1e-12
    )
    assert gain([(relevance, relevance) for _, relevance in rows]) == pytest.approx(1, abs=1e-12)


@given(RANKED)
def test_scikit_learn_gives_the_same_gain(rows):
    """Without ties the gain is within 1e-12 of scikit-learn's at k, the number of relevant candidates."""
    metrics = pytest.importorskip("sklearn.metrics")
    scores, relevance = zip(*rows, strict=True)
    k = sum(value > 0 for value in relevance)
    assert gain(rows) == pytest.approx(metrics.ndcg_score([relevance], [scores], k=k), abs=1e-12)


def test_the_metric_is_the_mean_with_ranks_beside_it():
    """Rounds with nothing relevant are counted and left out; ranks are those of the human answer."""
    items = [
        item(name="0", relevance=CASES[0][1], gt_index=1),
        item(name="1", relevance=[0, 0], gt_index=1),
        item(name="2", relevance=CASES[1][1]),
        item(name="3"),
    ]
    scores = [CASES[0][0], [-1.0, -1.0], CASES[1][0], []]
    predictions = [said(name=str(place), log_probs=tuple(row)) for place, row in enumerate(scores)]
    score = Ndcg().score(items, predictions)
    assert score.value == pytest.approx(100 * (0.795630 + 0.442389) / 2, abs=1e-4)
    assert score.per_item[1] is None and score.per_item[3] is None
    assert score.counts == {"asked": 4, "scored": 2, "nothing_relevant": 1, "ranked": 2}
    assert score.parts == {"mrr": 75, "r@1": 50, "r@5": 100, "r@10": 100, "mean_rank": 1.5}
    assert Ndcg().score(items[3:], predictions[3:]).value is None


def test_what_is_wrong_is_told():
    """Relevance of another length, all zero or negative, and truths out of range are refused."""
    with pytest.raises(ValueError, match="scores has 1 candidates, relevance 2"):
        ndcg([1.0], [1, 0])
    with pytest.raises(ValueError, match="relevance is all zero"):
        ndcg([1.0, 2.0], [0, 0])
    for bad in (-0.5, math.nan, math.inf):
        with pytest.raises(ValueError, match=rf"relevance\[1\] is {bad}"):
            ndcg([1.0, 2.0], [1, bad])
    with pytest.raises(EvaluationError, match="query '0' has gt_index 2, wanted a whole number from 0 to 1"):
        Ndcg().score([item(relevance=[1, 0], gt_index=2)], [said(log_probs=(-1.0, -2.0))])
    with pytest.raises(EvaluationError, match="query '0' has log-probabilities of 2 candidates, wanted 3"):
        Ndcg().score([item(relevance=[1, 0, 0])], [said(log_probs=(-1.0, -2.0))])
