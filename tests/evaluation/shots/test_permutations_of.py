"""Several orders of the same shots."""

from collections import Counter
from itertools import permutations
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots import permutations_of

SHOTS = tuple(TaskItem(id=name, media=()) for name in "abcdefgh")


@given(st.integers(0, 8), st.integers(1, 30), st.text(max_size=3), st.randoms(use_true_random=False))
def test_orders_are_different_and_do_not_depend_on_the_first(number, count, key, random):
    """As many as asked for or as there are, of all shots, the same whatever order they come in."""
    shots = SHOTS[:number]
    found = permutations_of(shots, count=count, key=key)
    assert len(found) == len(set(found)) == min(count, factorial(number))
    assert all(sorted(order, key=lambda item: item.id) == list(shots) for order in found)
    assert permutations_of(random.sample(shots, number), count=count, key=key) == found


@given(st.text(max_size=3), st.integers(1, 5), st.integers(1, 5))
def test_more_orders_begin_with_fewer(key, few, more):
    """A longer mean goes on from a shorter one, as long as not all are taken."""
    few, more = sorted((few, more))
    assert permutations_of(SHOTS, count=more, key=key)[:few] == permutations_of(SHOTS, count=few, key=key)


def test_all_orders_are_as_likely():
    """Over 2400 keys each of 24 orders comes first about a hundred times."""
    counts = Counter(permutations_of(SHOTS[:4], count=1, key=str(key))[0] for key in range(2400))
    assert set(counts) == set(permutations(SHOTS[:4]))
    assert 60 < min(counts.values()) <= max(counts.values()) < 140


def test_all_orders_but_one():
    """Are found as well."""
    assert len(set(permutations_of(SHOTS[:4], count=23, key="a"))) == 23


def test_slips_are_told():
    """With what is wanted."""
    with pytest.raises(ValueError, match="count is 0, wanted 1 or more"):
        permutations_of(SHOTS, count=0, key="")
    with pytest.raises(EvaluationError, match="the id 'a' comes twice in the shots"):
        permutations_of([SHOTS[0], SHOTS[0]], key="")
