"""Intervals: what they may depend on, what they hold, and that quick ways give what the slow one gives."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics import (
    ExactMatch,
    RareAct,
    RocAuc,
    StarAccuracy,
    bootstrap,
    clustered_bootstrap,
    metric_difference,
    metric_interval,
    paired_difference,
)
from flamingo_blocks.evaluation.score import Score
from tests.evaluation.metrics.answered import said

VALUES = st.lists(
    st.tuples(st.one_of(st.none(), st.floats(0, 100)), st.sampled_from("abcdef")), min_size=1, max_size=30
).filter(lambda rows: any(value is not None for value, _ in rows))
FACTS = {
    RocAuc: lambda draw: {"label": draw.randrange(2)},
    StarAccuracy: lambda draw: {"question_type": draw.choice(["S", "F"]), "class_index": draw.randrange(2)},
    RareAct: lambda draw: {
        "class_id": (name := draw.randrange(2)), "verb": "cut", "noun": "xy"[name],
        "annotation": draw.choice([1, 1, 0, 2]), "video": draw.choice("abc"),
    },
}  # fmt: skip


def asked(metric, number, seed):
    """Items with the facts of a metric, and two sets of predictions of them."""
    draw = random.Random(seed)  # noqa: S311 - cases, no secrets
    items = [
        TaskItem(
            id=str(k),
            media=(),
            cluster=draw.choice("abcdefgh"),
            candidates=("yes", "no"),
            facts=FACTS[type(metric)](draw),
        )
        for k in range(number)
    ]
    sets = [
        [said(name=str(k), log_probs=(draw.choice([-1.0, -2.0]), draw.uniform(-5, 0))) for k in range(number)]
        for _ in range(2)
    ]
    return items, *sets


class Plain:
    """A metric without its quick way."""

    def __init__(self, metric):
        self.variant, self.score = metric.variant, metric.score


@given(VALUES, st.integers(0, 3), st.randoms(use_true_random=False))
def test_the_interval_depends_on_values_clusters_and_seed_alone(rows, seed, shuffle):
    """Items in another order give the same interval; so does asking again; it lies within the values."""
    options = {"num_resamples": 50, "seed": seed}
    found = clustered_bootstrap([v for v, _ in rows], [c for _, c in rows], **options)
    other = shuffle.sample(rows, len(rows))
    assert clustered_bootstrap([v for v, _ in other], [c for _, c in other], **options) == found
    there = [value for value, _ in rows if value is not None]
    assert min(there) - 1e-9 <= found[0] <= found[1] <= max(there) + 1e-9


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """Of 200 samples of 100 answers that are right half of the time, the 95 % interval holds 50 for most."""
    draw = random.Random(0)  # noqa: S311 - cases, no secrets
    held = 0
    for seed in range(200):
        values = [100.0 * (draw.random() < 0.5) for _ in range(100)]
        low, high = clustered_bootstrap(values, [str(k) for k in range(100)], num_resamples=200, seed=seed)
        held += low <= 50 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_items_of_one_cluster_are_drawn_together():
    """Ten copies of each image's question make the interval no narrower; drawn alone they would."""
    values = [100.0 * (k % 2) for k in range(40)]
    names = [str(k) for k in range(40)]
    once = clustered_bootstrap(values, names)
    assert clustered_bootstrap(values * 10, names * 10) == pytest.approx(once)
    low, high = clustered_bootstrap(values * 10, [str(k) for k in range(400)])
    assert high - low < 0.5 * (once[1] - once[0])


@pytest.mark.parametrize("metric", [RocAuc(), StarAccuracy(), RareAct()], ids=lambda metric: metric.variant)
def test_the_quick_way_of_a_metric_gives_what_scoring_again_gives(metric):
    """Intervals and differences of metrics that are no means are those of scoring every drawn set anew."""
    items, own, other = asked(metric, 40, seed=1)
    for seed in range(6):  # one set each, so that its value is seen
        options = {"num_resamples": 1, "seed": seed}
        assert metric_interval(metric, items, own, **options) == pytest.approx(
            metric_interval(Plain(metric), items, own, **options), abs=1e-9
        )
        assert metric_difference(metric, items, own, other, **options) == pytest.approx(
            metric_difference(Plain(metric), items, own, other, **options), abs=1e-9
        )
    assert metric_difference(metric, items, own, own, num_resamples=20) == (0, 0, 0)


def test_means_are_drawn_from_their_values():
    """The interval of a mean is that of its values over the clusters of the items, which are images."""
    items = [
        TaskItem(id=str(k), media=(ImageSegment(url=f"{k // 2}.jpg", data="x"),), answers=("yes",)) for k in range(20)
    ]
    own = [said("yes" if k % 3 else "no", name=str(k)) for k in range(20)]
    other = [said("no", name=str(k)) for k in range(20)]
    metric = ExactMatch()
    score, worse = metric.score(items, own), metric.score(items, other)
    clusters = [item.cluster for item in items]
    assert metric_interval(metric, items, own) == clustered_bootstrap(score.per_item, clusters)
    assert metric_difference(metric, items, own, other) == paired_difference(score, worse, clusters)
    assert paired_difference(score, worse, clusters)[0] == pytest.approx(score.value)
    assert paired_difference(score, score, clusters) == (0, 0, 0)


def test_metrics_without_a_value_have_no_interval():
    """Where a split has no answers, or labels of one class alone, there is nothing to draw."""
    items, predictions = [TaskItem(id="0", media=())], [said()]
    assert metric_interval(ExactMatch(), items, predictions) is None
    assert metric_difference(RocAuc(), items, predictions, predictions) is None
    labelled = [replace(items[0], facts={"label": 1})]
    said_of_two = [said(log_probs=(-1.0, -2.0))]
    assert metric_interval(RocAuc(), labelled, said_of_two) is None


def test_what_is_wrong_is_told():
    """Numbers that differ, scores of two rules, options out of range and undefined metrics are refused."""
    with pytest.raises(ValueError, match="values are of 1 items, clusters of 0"):
        clustered_bootstrap([1.0], [])
    with pytest.raises(ValueError, match="values has no item that counts"):
        clustered_bootstrap([None], ["a"])
    with pytest.raises(ValueError, match="num_resamples is 0"):
        clustered_bootstrap([1.0], ["a"], num_resamples=0)
    with pytest.raises(ValueError, match="level is 1.5"):
        clustered_bootstrap([1.0], ["a"], level=1.5)
    one = Score(variant="top-1", value=1.0, per_item=(1.0,))
    with pytest.raises(ValueError, match=r"own is top-1, other is VQA\(official\)"):
        paired_difference(one, Score(variant="VQA(official)", value=1.0, per_item=(1.0,)), ["a"])
    with pytest.raises(ValueError, match="own has values of 1 items, other of 0"):
        paired_difference(one, Score(variant="top-1", value=1.0), ["a"])
    items, own, _ = asked(RocAuc(), 2, seed=0)
    items = [TaskItem(id=str(k), media=(), cluster=str(k), facts={"label": k}) for k in range(2)]
    seed = next(seed for seed in range(99) if _draws_one(seed))
    items = [replace(item, cluster=item.id) for item in items]
    with pytest.raises(EvaluationError, match="defined for none of the sets"):
        metric_interval(RocAuc(), items, own, num_resamples=1, seed=seed)


def _draws_one(seed):
    """Whether the first of the sets drawn of two clusters holds one of them twice."""
    return len(set(next(bootstrap._draws(2, 1, seed))[0].tolist())) == 1
