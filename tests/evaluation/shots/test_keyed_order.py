"""Orders that hashes decide."""

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.shots import assign_groups, keyed_order

ids = st.lists(st.text(max_size=4), unique=True, max_size=12)
KEY = {"task": "vqav2", "purpose": "shots", "seed": 3}


@given(ids)
def test_an_order_is_that_of_the_hashes(names):
    """Of the JSON of task, purpose, seed and id, whatever is in the id."""

    def digest(name):
        return sha256(json.dumps(["vqav2", "shots", 3, name]).encode()).hexdigest()

    assert keyed_order(names, **KEY) == sorted(names, key=digest)


@given(ids, st.randoms(use_true_random=False))
def test_the_order_of_a_file_changes_nothing(names, random):
    """Nor does an id that is left out move the others."""
    found = keyed_order(names, **KEY)
    some = random.sample(names, len(names))
    assert keyed_order(some, **KEY) == found
    left = some[: len(some) // 2]
    assert keyed_order(left, **KEY) == [name for name in found if name in left]


def test_tasks_purposes_and_seeds_have_orders_of_their_own():
    """Of twenty ids no two orders are the same."""
    names = [str(number) for number in range(20)]
    changes = ({}, {"task": "okvqa"}, {"purpose": "support"}, {"seed": 4})
    assert len({tuple(keyed_order(names, **{**KEY, **change})) for change in changes}) == 4


def test_an_id_may_come_once():
    """The error names it."""
    with pytest.raises(ValueError, match="the id 'a' comes twice"):
        keyed_order(["a", "b", "a"], **KEY)


@given(ids, st.integers(1, 5), st.randoms(use_true_random=False))
def test_groups_are_told_by_the_id_alone(names, num_groups, random):
    """Every query has one group below their number, whatever the other queries are."""
    groups = assign_groups(names, task="vqav2", seed=0, num_groups=num_groups)
    assert list(groups) == names
    assert set(groups.values()) <= set(range(num_groups))
    some = random.sample(names, len(names) // 2)
    assert assign_groups(some, task="vqav2", seed=0, num_groups=num_groups) == {name: groups[name] for name in some}


def test_groups_are_of_like_size_and_differ_by_seed():
    """Of 6400 queries each of 64 groups has about a hundred; None gives each query a group of its own."""
    names = [str(number) for number in range(6400)]
    first, second = (assign_groups(names, task="vqav2", seed=seed) for seed in (0, 1))
    sizes = [list(first.values()).count(group) for group in range(64)]
    assert 60 < min(sizes) <= max(sizes) < 140
    assert sum(first[name] == second[name] for name in names) < 200
    assert len(set(assign_groups(names, task="vqav2", seed=0, num_groups=None).values())) == 6400


def test_a_number_of_groups_that_is_none_is_told():
    """With what is wanted."""
    with pytest.raises(ValueError, match="num_groups is 0, wanted 1 or more, or None"):
        assign_groups(["a"], task="vqav2", seed=0, num_groups=0)
