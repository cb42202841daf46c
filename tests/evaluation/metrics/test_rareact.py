"""Mean weighted average precision: scikit-learn on drawn rankings, and which clips are set against which."""

from collections import Counter
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.metrics import RareAct, RareActClip, rareact_mwap, weighted_average_precision
from tests.evaluation.metrics.answered import item, said

ACTIONS = [("cut", "shoe"), ("cut", "egg"), ("wash", "egg"), ("drill", "phone")]
ROWS = st.lists(
    st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.integers(0, 1), st.floats(0.05, 1)), min_size=1, max_size=15
).filter(lambda rows: any(label for _, label, _ in rows))
CLIPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([1, 1, 1, 0, 2, 3, 4]),
        st.sampled_from("ab"),
        st.lists(st.floats(-9, 0), min_size=4, max_size=4),
    ),
    max_size=25,
)


@given(ROWS)
def test_scikit_learn_gives_the_same_weighted_average_precision(rows):
    """It is within 1e-12 of scikit-learn's with sample weights, ties included."""
    metrics = pytest.importorskip("sklearn.metrics")
    scores, labels, weights = zip(*rows, strict=True)
    expected = metrics.average_precision_score(labels, scores, sample_weight=weights)
    assert weighted_average_precision(scores, labels, weights) == pytest.approx(expected, abs=1e-12)


def test_the_worked_case():
    """Clips of one video share its weight: 0.643, and 0.7 without weights."""
    scores, labels = [0.9, 0.3, 0.6, 0.7, 0.2, 0.8], [1, 1, 1, 0, 0, 0]
    found = weighted_average_precision(scores, labels, [0.5, 0.5, 1, 0.5, 0.5, 1])
    assert found == pytest.approx(0.642857, abs=1e-6)
    assert weighted_average_precision(scores, labels, [1] * 6) == pytest.approx(0.7)


def clip(name, annotation, video):
    return RareActClip(name, *ACTIONS[name], annotation, video)


def by_the_definition(clips, scores, name):
    """The three sets written out, and scikit-learn's weighted average precision over them."""
    metrics = pytest.importorskip("sklearn.metrics")
    verb, noun = ACTIONS[name]
    positive = [k for k, c in enumerate(clips) if c.class_id == name and c.annotation == 1]
    others = [k for k, c in enumerate(clips) if c.class_id != name and c.annotation == 1]
    close = [k for k in others if clips[k].verb == verb or clips[k].noun == noun]
    hard = [k for k, c in enumerate(clips) if c.class_id == name and c.annotation in {2, 3, 4}] + close
    negative = [k for k, c in enumerate(clips) if c.class_id == name and c.annotation == 0]
    negative += [k for k in others if k not in close]
    labels, ranked, weights = [], [], []
    for members in (positive, hard, negative):
        videos = Counter(clips[k].video for k in members)
        labels += [int(members is positive)] * len(members)
        ranked += [scores[k][name] for k in members]
        weights += [1 / videos[clips[k].video] for k in members]
    return metrics.average_precision_score(labels, ranked, sample_weight=weights)


@given(CLIPS, st.randoms(use_true_random=False))
def test_each_class_is_ranked_against_its_hard_and_other_negatives(rows, random):
    """The value of each class that is shown is that of the definition written out, in any order of the clips."""
    clips = [clip(name, annotation, video) for name, annotation, video, _ in rows]
    scores = [row for *_, row in rows]
    found = rareact_mwap(scores, clips)
    shown = {c.class_id for c in clips if c.annotation == 1}
    assert found == pytest.approx({name: by_the_definition(clips, scores, name) for name in shown}, abs=1e-12)
    order = random.sample(range(len(rows)), len(rows))
    assert rareact_mwap([scores[k] for k in order], [clips[k] for k in order]) == pytest.approx(found, abs=1e-12)


def test_clips_of_the_same_noun_are_hard_negatives():
    """One video weighs 1 among the hard negatives and 1 among the others: cutting eggs, washing eggs, drilling."""
    clips = [clip(1, 1, "a"), clip(2, 1, "v"), clip(3, 1, "v")]
    found = rareact_mwap([[0, 0.5, 0, 0], [0, 0.9, 0, 0], [0, 0.8, 0, 0]], clips)
    assert found[1] == pytest.approx(1 / 3)


def asked(rows):
    names = [str(place) for place in range(len(rows))]
    items = [item(name=name, **asdict(clip(*row[:3]))) for name, row in zip(names, rows, strict=True)]
    return items, [said(name=name, log_probs=row[3]) for name, row in zip(names, rows, strict=True)]


def test_the_metric_is_the_mean_over_classes_that_are_shown():
    """A perfect ranking scores 100; classes that no clip shows do not count."""
    rows = [(0, 1, "a", (-1.0, -9.0, -9.0)), (0, 3, "b", (-5.0, -9.0, -9.0)), (1, 1, "c", (-6.0, -1.0, -9.0))]
    score = RareAct().score(*asked([*rows, (2, 0, "d", (-1.0, -1.0, -1.0))]))
    assert score.value == 100 and score.counts == {"asked": 4, "scored": 4, "classes": 2}
    worse = [*rows[:2], (1, 1, "c", (-0.5, -1.0, -9.0))]
    assert RareAct().score(*asked(worse)).value == pytest.approx(75)
    assert RareAct().score(*asked(rows[1:2])).value is None


def test_what_is_wrong_is_told():
    """Missing facts, classes out of range and rankings without positives are refused."""
    with pytest.raises(EvaluationError, match="query '0' lacks the fact 'verb'"):
        RareAct().score([item(class_id=0)], [said(log_probs=(-1.0,))])
    with pytest.raises(ValueError, match=r"clips\[0\] has class 3 and annotation 1, wanted a class from 0 to 1"):
        rareact_mwap([[0.1, 0.2]], [clip(3, 1, "a")])
    with pytest.raises(ValueError, match="annotation 7"):
        rareact_mwap([[0.1]], [clip(0, 7, "a")])
    with pytest.raises(ValueError, match="scores has 0 clips, clips 1"):
        rareact_mwap([], [clip(0, 1, "a")])
    with pytest.raises(ValueError, match="labels has no positive"):
        weighted_average_precision([0.5], [0], [1.0])
    with pytest.raises(ValueError, match="scores has 1 items, labels 1, weights 0"):
        weighted_average_precision([0.5], [1], [])
