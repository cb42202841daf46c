"""Seeds are taken together as their mean and spread, and never across variants."""

from statistics import mean, stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.evaluation.reports import summarise
from flamingo_blocks.evaluation.results import Cell, EvaluationResult
from flamingo_blocks.evaluation.score import Score


def summaries_of(*cells):
    return summarise(EvaluationResult(cells=cells, run={}, tasks={"t": {}}))


def cell(seed, value, *, variant="V", **more):
    return Cell(task="t", shots=4, seed=seed, scores=(Score(variant=variant, value=value),), **more)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5))
def test_mean_and_spread_are_those_of_the_seeds(values):
    """The standard deviation is that of a sample; one seed has none."""
    (found,) = summaries_of(*(cell(seed, value) for seed, value in enumerate(values)))
    assert found.mean == pytest.approx(mean(values), abs=1e-9)
    assert found.sd == (None if len(values) == 1 else pytest.approx(stdev(values), abs=1e-9))
    assert found.seeds == tuple(range(len(values)))


def test_variants_are_kept_apart():
    """Two rules give two summaries, each of its own seeds."""
    found = summaries_of(cell(0, 1.0), cell(1, 3.0), cell(2, 9.0, variant="W"))
    assert [(each.variant, each.mean, each.seeds) for each in found] == [("V", 2.0, (0, 1)), ("W", 9.0, (2,))]


def test_ends_of_intervals_are_averaged():
    """And those of differences; where one seed has none, there is none."""
    both = [cell(seed, 1.0, interval=(seed, seed + 2.0), difference=(2.0, seed, 5.0)) for seed in (0, 1)]
    (found,) = summaries_of(*both)
    assert (found.interval, found.difference) == ((0.5, 2.5), (2.0, 0.5, 5.0))
    (found,) = summaries_of(*both, cell(2, 1.0))
    assert (found.interval, found.difference) == (None, None)


def test_a_seed_without_a_score_does_not_count():
    """Of a split without answers; shares are there all the same."""
    more = {"counts": {"asked": 10, "stopped_by_length": 5}, "rates": {"copy_last": 0.5}}
    (found,) = summaries_of(cell(0, None, **more), cell(1, 3.0, **more))
    assert (found.mean, found.sd, found.seeds) == (3.0, None, (1,))
    assert found.rates == {"copy_last": 0.5, "stopped_by_length": 0.5}
    (found,) = summaries_of(cell(0, None, **more))
    assert (found.mean, found.seeds) == (None, ())
