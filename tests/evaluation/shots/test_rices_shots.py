"""Shots whose pictures are like the query's."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots import RicesShots, ShotSource, nearest_items

NUM_ITEMS, NUM_QUERIES = 30, 4
SUPPORT = tuple(
    TaskItem(id=f"s{number:02d}", media=(ImageSegment(url=f"{number}.jpg"),), answers=("abc"[number % 3],))
    for number in range(NUM_ITEMS)
)
QUERIES = tuple(TaskItem(id=f"q{number}", media=(ImageSegment(url=f"q{number}.jpg"),)) for number in range(NUM_QUERIES))
ORDERS = ("nearest_last", "nearest_first", "random")
seeds = st.integers(0, 1000)


def name_of(item):
    return item.answers[0]


def features_of(seed):
    """Of support and queries, with ties."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, 4, (number, 3), generator=generator).float() for number in (NUM_ITEMS, NUM_QUERIES)]


def source(seed=0, *, support=SUPPORT, features=None, **options):
    own, asked = features_of(seed)
    return RicesShots(support, own if features is None else features, asked, queries=QUERIES, **options)


def ranked(seed, query):
    """The support from the nearest to the farthest, which stands in the order of its ids."""
    own, asked = features_of(seed)
    row = QUERIES.index(query)
    return [SUPPORT[place] for place in nearest_items(own, asked[row : row + 1], k=NUM_ITEMS)[0].tolist()]


@given(seeds, st.sampled_from(QUERIES), st.integers(0, NUM_ITEMS))
def test_the_nearest_are_shown_and_the_nearest_last(seed, query, shots):
    """Or first, or in an order that is drawn; the same items each time."""
    expected = ranked(seed, query)[:shots]
    assert source(seed).draw(query, shots) == tuple(reversed(expected))
    assert source(seed, order="nearest_first").draw(query, shots) == tuple(expected)
    assert set(source(seed, order="random").draw(query, shots)) == set(expected)


@given(seeds, st.sampled_from(ORDERS), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_the_support_changes_nothing(seed, order, balanced, random):
    """Ties are won by the lesser id; what was drawn before does not matter either."""
    places = random.sample(range(NUM_ITEMS), NUM_ITEMS)
    options = {"order": order, "balanced": balanced, "classes": name_of}
    mixed = source(seed, support=[SUPPORT[place] for place in places], features=features_of(seed)[0][places], **options)
    one = source(seed, **options)
    for query in random.sample(QUERIES, 2):
        for shots in random.sample(range(9), 2):
            assert mixed.draw(query, shots) == one.draw(query, shots)


@given(seeds, st.integers(-20, 20))
def test_lengths_of_features_change_nothing(seed, power):
    """It is the direction that is compared."""
    scaled = source(seed, features=features_of(seed)[0] * 2.0**power)
    assert [scaled.draw(query, 8) for query in QUERIES] == [source(seed).draw(query, 8) for query in QUERIES]


@given(seeds, st.sets(st.integers(0, NUM_ITEMS - 1), max_size=28), st.integers(1, 8))
def test_the_own_picture_is_passed_over(seed, twins, shots):
    """The next nearest take its place, however many are passed over; they are counted."""
    query = QUERIES[0]
    support = [
        TaskItem(id=item.id, media=query.media if number in twins else item.media, answers=item.answers)
        for number, item in enumerate(SUPPORT)
    ]
    one = source(seed, support=support, order="nearest_first", task="t")
    left = [item.id for item in ranked(seed, query) if int(item.id[1:]) not in twins]
    if len(left) < shots:
        said = f"^task 't': {shots} shots are asked for query 'q0', and its support has 30, {len(left)} of them"
        with pytest.raises(EvaluationError, match=said):
            one.draw(query, shots)
        return
    assert [item.id for item in one.draw(query, shots)] == left[:shots]
    before = [item.id for item in ranked(seed, query)].index(left[shots - 1])
    assert one.excluded.get("q0", 0) == before - (shots - 1)


def test_any_number_of_the_nearest_may_be_passed_over():
    """The farthest is found where all others show the query."""
    query, order = QUERIES[0], ranked(0, QUERIES[0])
    support = [item if item is order[-1] else TaskItem(id=item.id, media=query.media) for item in SUPPORT]
    rices = source(support=support)
    assert rices.draw(query, 1) == (order[-1],)
    assert rices.excluded == {"q0": NUM_ITEMS - 1}


@given(seeds, st.sampled_from(QUERIES), st.integers(0, 12))
def test_balanced_draws_take_the_nearest_of_each_class(seed, query, shots):
    """In turn, so that none is more than one ahead; within a class they are the nearest, and all come in order."""
    drawn = source(seed, balanced=True, classes=name_of, order="nearest_first").draw(query, shots)
    counts = Counter(map(name_of, drawn))
    assert max(counts[name] for name in "abc") - min(counts[name] for name in "abc") <= 1
    order = ranked(seed, query)
    for name in "abc":
        own = [item for item in order if name_of(item) == name]
        assert [item for item in drawn if name_of(item) == name] == own[: counts[name]]
    assert list(drawn) == sorted(drawn, key=order.index)


def test_a_class_that_runs_out_gives_way_in_its_round():
    """And is told when the others have had their turn."""
    places = [0, 1, 3, 6]  # classes a b a a
    support = [SUPPORT[place] for place in places]
    rices = source(support=support, features=features_of(0)[0][places], balanced=True, classes=name_of)
    assert sorted(map(name_of, rices.draw(QUERIES[0], 3))) == ["a", "a", "b"]
    with pytest.raises(EvaluationError, match="4 shots of 2 classes in turns take 2 of class 'b', and 1 may be shown"):
        rices.draw(QUERIES[0], 4)


def test_random_orders_differ_by_seed():
    """Of eight shots."""
    draws = {source(order="random", seed=0, task=str(task)).draw(QUERIES[0], 8) for task in range(4)}
    assert len(draws) == 4


def test_a_query_without_features_is_told():
    """By its id."""
    with pytest.raises(EvaluationError, match="query 'other' has no features; it is none of the queries"):
        source().draw(TaskItem(id="other", media=()), 1)


def test_an_empty_support_gives_no_shots():
    """One is too many."""
    for balanced in (False, True):
        rices = source(support=(), features=torch.zeros(0, 3), balanced=balanced, classes=name_of)
        assert rices.draw(QUERIES[0], 0) == ()
        with pytest.raises(EvaluationError, match="^the support has no shots; ask it with 0 shots$"):
            rices.draw(QUERIES[0], 1)


@pytest.mark.usefixtures("without_shape_checks")
def test_slips_are_told():
    """With the argument, what came and what is wanted."""
    with pytest.raises(ValueError, match="order is 'last', wanted one of 'nearest_last', 'nearest_first', 'random'"):
        source(order="last")
    with pytest.raises(ValueError, match="balanced is True and classes is None"):
        source(balanced=True)
    with pytest.raises(ValueError, match="features has 2 rows for 30 items, wanted one for each, in order"):
        source(features=torch.ones(2, 3))
    with pytest.raises(EvaluationError, match="the id 'q0' comes twice in the queries"):
        RicesShots(SUPPORT, torch.ones(30, 3), torch.ones(2, 3), queries=[QUERIES[0], QUERIES[0]])
    with pytest.raises(ValueError, match="shots is -1"):
        source().draw(QUERIES[0], -1)


def test_it_is_a_source():
    """As the protocol has it."""
    assert isinstance(source(), ShotSource)
