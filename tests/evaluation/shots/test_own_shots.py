"""Shots of queries that bring their own."""

from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots import OwnShots, ShotSource

ORDERS = ("given", "permuted", "balanced")
SUPPORT = tuple(
    TaskItem(id=f"{name}{number}", media=(ImageSegment(url=f"{name}{number}.jpg"),), answers=(name,))
    for name in ("dax", "blk", "fep")
    for number in range(4)
)


def name_of(item):
    return item.answers[0]


def a_query(id_="q", support=SUPPORT, answer="blk"):
    return TaskItem(id=id_, media=(ImageSegment(url="q.jpg"),), answers=(answer,), support=support)


def source(order="given", seed=0, **options):
    return OwnShots(task="binding", seed=seed, order=order, classes=name_of, **options)


@given(st.sampled_from(ORDERS), st.integers(0, 3), st.integers(0, 9), st.integers(0, 9))
def test_draws_are_nested_and_of_the_query_alone(order, seed, few, more):
    """Fewer shots are the first of more; another query in between changes nothing."""
    few, more = sorted((few, more))
    one = source(order, seed)
    drawn = one.draw(a_query(), more)
    one.draw(a_query("other"), 3)
    assert one.draw(a_query(), few) == drawn[:few]
    assert len(set(drawn)) == more
    assert set(drawn) <= set(SUPPORT)


@given(st.sampled_from(ORDERS[1:]), st.randoms(use_true_random=False))
def test_what_is_drawn_does_not_depend_on_how_the_support_stands(order, random):
    """Only `"given"` keeps it as it stands."""
    mixed = a_query(support=tuple(random.sample(SUPPORT, len(SUPPORT))))
    assert source(order).draw(mixed, 7) == source(order).draw(a_query(), 7)
    assert source("given").draw(mixed, 7) == mixed.support[:7]


@given(st.integers(0, 3), st.integers(0, 12))
def test_balanced_draws_take_classes_in_turn(seed, shots):
    """No class is more than one ahead of another."""
    counts = Counter(map(name_of, source("balanced", seed).draw(a_query(), shots)))
    assert max(counts[name] for name in ("dax", "blk", "fep")) - min(counts[n] for n in ("dax", "blk", "fep")) <= 1


@given(st.integers(0, 9), st.sampled_from(["dax", "blk", "fep"]), st.integers(1, 3))
def test_some_classes_are_drawn_and_the_own_is_among_them(seed, answer, num_classes):
    """So that a query can be answered from its shots."""
    drawn = source("balanced", seed, num_classes=num_classes).draw(a_query(answer=answer), num_classes)
    names = set(map(name_of, drawn))
    assert len(names) == num_classes
    assert answer in names


def test_seeds_and_queries_have_draws_of_their_own():
    """Of 12 items in random order."""
    draws = [source("permuted", seed).draw(a_query(id_), 12) for seed in (0, 1) for id_ in "ab"]
    assert len(set(draws)) == 4


@pytest.mark.parametrize("order", ORDERS)
def test_the_own_picture_is_passed_over(order):
    """And counted."""
    twin = TaskItem(id="twin", media=(ImageSegment(url="q.jpg"),), answers=("dax",))
    one = source(order)
    drawn = one.draw(a_query(support=(twin, *SUPPORT)), 12)
    assert drawn == source(order).draw(a_query(), 12)
    assert one.excluded == {"q": 1}
    with pytest.raises(EvaluationError, match="^task 'binding': 1 shots are asked for query 'q', and its"):
        source("given").draw(a_query(support=(twin,)), 1)


def test_a_query_without_support_is_told():
    """With what would give it shots; none are asked for where there are none."""
    query = TaskItem(id="q", media=())
    assert source().draw(query, 0) == ()
    with pytest.raises(EvaluationError, match="^task 'binding': query 'q' has no support of its own; take"):
        source().draw(query, 1)


def test_slips_are_told():
    """With the argument, what came and what is wanted."""
    with pytest.raises(ValueError, match="order is 'balanced' and classes is None"):
        OwnShots(task="t", seed=0, order="balanced")
    with pytest.raises(ValueError, match="num_classes is 0, wanted 1 or more, or None for all"):
        source(num_classes=0)
    with pytest.raises(EvaluationError, match="the id 'dax0' comes twice in the support of query 'q'"):
        source().draw(a_query(support=(SUPPORT[0], SUPPORT[0])), 1)
    with pytest.raises(EvaluationError, match="^task 'binding': 13 shots of 3 classes in turns take 5 of class"):
        source("balanced").draw(a_query(), 13)
    with pytest.raises(ValueError, match="shots is -2"):
        source().draw(a_query(), -2)


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_order_is_told():
    """With those that there are."""
    with pytest.raises(ValueError, match="order is 'first', wanted one of 'given', 'permuted', 'balanced'"):
        OwnShots(task="t", seed=0, order="first")


def test_it_is_a_source():
    """As the protocol has it."""
    assert isinstance(source(), ShotSource)
    assert list(islice(source().excluded, 1)) == []
