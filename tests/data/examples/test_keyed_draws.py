"""Draws depend on their key and their purpose, and on nothing else."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.examples import KeyedDraws

keys = st.recursive(st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=5)
purposes = st.lists(st.text() | st.integers(), max_size=3)


@given(keys, st.lists(purposes, max_size=4), purposes)
def test_a_draw_does_not_depend_on_the_draws_before_it(key, others, purpose):
    """The same key and purpose give the same number, whatever else was asked."""
    used = KeyedDraws(key)
    for other in others:
        used.uniform(*other)
    assert used.uniform(*purpose) == KeyedDraws(key).uniform(*purpose)
    assert 0.0 <= used.uniform(*purpose) < 1.0


@given(keys, keys, purposes, purposes)
def test_other_keys_and_purposes_draw_anew(key, other, purpose, another):
    """Two keys, or two purposes, share a number only if they are the same."""
    assert (KeyedDraws(key).uniform(*purpose) == KeyedDraws(other).uniform(*purpose)) == (key == other)
    assert (KeyedDraws(key).uniform(*purpose) == KeyedDraws(key).uniform(*another)) == (purpose == another)


def test_numbers_lie_evenly():
    """A tenth of the numbers lies in each tenth, and a chance is kept."""
    numbers = [KeyedDraws((0, index)).uniform("place") for index in range(5000)]
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert (abs(counts - 500) < 5 * 500**0.5).all()
    happened = sum(KeyedDraws(index).happens(0.2, "flip") for index in range(5000))
    assert abs(happened - 1000) < 5 * 800**0.5
    assert not any(KeyedDraws(index).happens(0.0) for index in range(100))
    assert all(KeyedDraws(index).happens(1.0) for index in range(100))


def test_draws_are_the_same_in_every_process_and_version():
    """The number of a key and a purpose is fixed for good, so a run can be made again: Python's own hashes differ."""
    assert KeyedDraws((1, "page", (2,))).uniform("flip", 3) == 0.21578088020646657


def test_integers_of_numpy_are_integers():
    """A key that came out of an array is the key that was written."""
    assert KeyedDraws((np.int64(3), np.str_("a"))).uniform() == KeyedDraws((3, "a")).uniform()


def test_other_keys_are_refused():
    """A float has many spellings, so it is no key."""
    with pytest.raises(TypeError, match=r"key holds 0\.5, a float"):
        KeyedDraws((0, 0.5))
