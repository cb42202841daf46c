"""The order: a permutation an epoch, whatever the size, and shares that are exact at every slot."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.loading import SampleOrder, ShareSchedule
from tests.strategies import seeds

names = st.sampled_from(["", "pages", "pairs"])


@given(st.integers(1, 600), seeds, st.integers(0, 10**9), names, st.booleans())
def test_an_epoch_is_a_permutation(size, seed, epoch, name, shuffle):
    """Each sample stands in each epoch once, for any size, seed and epoch."""
    order = SampleOrder(size, seed, name, shuffle)
    places = [order.at(epoch * size + index) for index in range(size)]
    assert sorted(place.sample for place in places) == list(range(size))
    assert {place.epoch for place in places} == {epoch}


@given(st.integers(1, 300), seeds, st.integers(0, 10**6))
def test_the_walk_from_a_position_sees_every_sample(size, seed, position):
    """What stands in for a sample, and for that in turn, is another sample of the same epoch until all were named."""
    order = SampleOrder(size, seed)
    walk = [order.at(position, tries=tries) for tries in range(size)]
    assert sorted(place.sample for place in walk) == list(range(size))
    assert {place.epoch for place in walk} == {position // size}


@given(st.integers(2, 300), seeds, st.integers(1, 300))
def test_what_stands_in_is_another_for_every_position(size, seed, tries):
    """Two positions of an epoch never name the same sample at the same try."""
    order = SampleOrder(size, seed)
    assert len({order.at(position, tries=tries).sample for position in range(size)}) == size


def test_order_depends_on_seed_name_and_epoch():
    """Another seed, source or epoch is another order."""
    orders = {
        tuple(SampleOrder(50, seed, name).at(50 * epoch + index).sample for index in range(50))
        for seed in (0, 1)
        for name in ("a", "b")
        for epoch in (0, 1)
    }
    assert len(orders) == 8


def test_the_order_of_this_version():
    """The order for a seed is what it was: states that were saved count its positions. Raise `VERSION` with it."""
    order = SampleOrder(1000, seed=7, name="pages")
    assert [order.at(position).sample for position in (0, 1, 2, 999, 1000, 10**12)] == [558, 335, 858, 924, 197, 63]
    huge = SampleOrder(43_300_000, seed=7)
    assert [huge.at(position).sample for position in (0, 1, 10**12)] == [60616, 36421154, 32159693]


@pytest.mark.parametrize("size", [3, 10, 24])
def test_the_order_is_as_good_as_random(size):
    """Which sample stands where, and which follows which, is spread over all as chance would spread it."""
    trials = 1500
    stands, follows = [[0] * size for _ in range(size)], [0] * size
    for seed in range(trials):
        order = SampleOrder(size, seed)
        seen = [order.at(index).sample for index in range(size)]
        for index, sample in enumerate(seen):
            stands[index][sample] += 1
            follows[(seen[(index + 1) % size] - sample) % size] += 1
    expected = trials / size
    assert sum((n - expected) ** 2 / expected for row in stands for n in row) < 2.5 * (size - 1) ** 2
    expected = trials * size / (size - 1)
    assert sum((n - expected) ** 2 / expected for n in follows[1:]) < 10 + 3 * (size - 2)


def test_nothing_has_no_order():
    """An order of no samples is refused."""
    with pytest.raises(ValueError, match="size is 0, wanted one sample at least"):
        SampleOrder(0, seed=0)


shares_of_sources = st.lists(st.integers(1, 60), min_size=1, max_size=7)


@given(shares_of_sources, st.sampled_from([1, 10, 100]), st.integers(0, 3))
def test_every_source_has_its_share_at_every_slot(numbers, divisor, periods):
    """After any number of slots each source is off its exact share by less than one, and counts its own slots."""
    schedule = ShareSchedule(tuple(number / divisor for number in numbers))
    total = sum(numbers)
    start = periods * total // 2
    had = [0] * len(numbers)
    for slot in range(start + total + 5):
        source, before = schedule.at(slot)
        assert before == had[source]
        had[source] += 1
        for number, count in zip(numbers, had, strict=True):
            assert abs(Fraction(number * (slot + 1), total) - count) < 1


def test_shares_are_read_as_decimals():
    """The paper's weights are a hundred, twenty, twenty and three of 143."""
    schedule = ShareSchedule((1.0, 0.2, 0.2, 0.03))
    sources = [schedule.at(slot)[0] for slot in range(143)]
    assert [sources.count(source) for source in range(4)] == [100, 20, 20, 3]
    assert schedule.at(143 * 10**9) == (sources[0], 10**9 * 100)


@pytest.mark.parametrize(
    ("shares", "says"),
    [((), "one number above 0"), ((1, 0), r"\(1, 0\), wanted one number above 0"), ((1, float("nan")), "nan"),
     ((1, float("inf")), "inf"), ((1 / 3, 1), "exact after .* slots only, wanted 10000 at most: round them")],
)  # fmt: skip
def test_bad_shares_are_refused(shares, says):
    """Shares are above 0 and of few digits."""
    with pytest.raises(ValueError, match=says):
        ShareSchedule(shares)
