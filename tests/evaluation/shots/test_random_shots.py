"""Shots drawn by hash."""

import sys
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots import RandomShots, ShotSource, assign_groups

seeds = st.integers(0, 5)
group_numbers = st.sampled_from([1, 3, None])


def an_item(id_, *, picture=None, cluster=""):
    """An item about a picture, which is named by its number."""
    media = (ImageSegment(url=f"{id_ if picture is None else picture}.jpg"),)
    return TaskItem(id=str(id_), media=media, cluster=cluster, answers=(f"class {len(str(id_)) % 2}",))


def ids_of(items):
    return [item.id for item in items]


def first_answer(item):
    return item.answers[0]


SUPPORT = tuple(an_item(f"s{10 ** (number % 2) * 10 + number}") for number in range(12))
QUERIES = tuple(an_item(f"q{number}") for number in range(9))


@given(seeds, group_numbers, st.booleans(), st.randoms(use_true_random=False))
def test_draws_depend_on_task_seed_and_id_alone(seed, num_groups, balanced, random):
    """Not on the order of the support, nor on the other queries, nor on what was drawn before."""
    options = {"task": "t", "seed": seed, "num_groups": num_groups, "balanced": balanced, "classes": first_answer}
    one = RandomShots(SUPPORT, **options)
    other = RandomShots(random.sample(SUPPORT, len(SUPPORT)), **options)
    expected = {query.id: ids_of(one.draw(query, 5)) for query in QUERIES}
    for query in random.sample(QUERIES, 5):
        assert ids_of(other.draw(query, 5)) == expected[query.id]


@given(seeds, group_numbers, st.booleans(), st.integers(0, 8), st.integers(0, 8))
def test_draws_are_nested(seed, num_groups, balanced, few, more):
    """Fewer shots are the first of more, and none comes twice."""
    source = RandomShots(SUPPORT, task="t", seed=seed, num_groups=num_groups, balanced=balanced, classes=first_answer)
    few, more = sorted((few, more))
    for query in QUERIES[:3]:
        drawn = source.draw(query, more)
        assert source.draw(query, few) == drawn[:few]
        assert len(set(ids_of(drawn))) == len(drawn) == more


@given(seeds, st.integers(1, 3), st.data())
def test_what_shows_the_query_is_never_drawn(seed, num_groups, data):
    """By id, cluster or name of a picture; the others come in the same order, and those passed over are counted."""
    kinds = data.draw(st.lists(st.sampled_from(["id", "cluster", "url", ""]), min_size=12, max_size=12))
    query = TaskItem(id="q", media=(ImageSegment(url="q.jpg"), ImageSegment(url="other.jpg")), cluster="c")
    changes = {"id": {}, "cluster": {"cluster": "c"}, "url": {"picture": "other"}, "": {}}
    support = [
        an_item("q" if kind == "id" and "id" not in kinds[:number] else f"s{number}", **changes[kind])
        for number, kind in enumerate(kinds)
    ]
    shown = [item.id != "q" and item.cluster != "c" and item.media[0].url != "other.jpg" for item in support]
    left = [item for item, other in zip(support, shown, strict=True) if other]
    assume(left)
    source, without = (RandomShots(items, task="t", seed=seed, num_groups=num_groups) for items in (support, left))
    assert source.draw(query, len(left)) == without.draw(query, len(left))
    assert source.excluded.get("q", 0) <= 12 - len(left)
    said = f"^task 't': {len(left) + 1} shots are asked for query 'q', and its support has 12"
    with pytest.raises(EvaluationError, match=said):
        source.draw(query, len(left) + 1)
    assert source.excluded.get("q", 0) == 12 - len(left)
    assert not without.excluded


@given(seeds, st.integers(1, 4))
def test_a_group_is_shown_the_same(seed, num_groups):
    """Queries of one group have one draw, those of two groups seldom; groups may be given."""
    source = RandomShots(SUPPORT, task="t", seed=seed, num_groups=num_groups)
    groups = assign_groups(ids_of(QUERIES), task="t", seed=seed, num_groups=num_groups)
    draws = {query.id: tuple(ids_of(source.draw(query, 6))) for query in QUERIES}
    assert len(set(draws.values())) == len(set(groups.values()))
    assert all((draws[a] == draws[b]) == (groups[a] == groups[b]) for a in draws for b in draws)
    given_ = RandomShots(SUPPORT, task="t", seed=seed, groups=groups)
    assert all(tuple(ids_of(given_.draw(query, 6))) == draws[query.id] for query in QUERIES)


def test_every_query_has_a_draw_of_its_own_where_asked():
    """And each seed other draws."""
    draws = [
        tuple(ids_of(RandomShots(SUPPORT, task="t", seed=seed, num_groups=None).draw(query, 6)))
        for query in QUERIES
        for seed in (0, 1)
    ]
    assert len(set(draws)) == 2 * len(QUERIES)


def test_an_excluded_item_moves_only_the_draw_of_its_query():
    """The other queries of the group are shown what they were."""
    source = RandomShots(SUPPORT, task="t", seed=0, num_groups=1)
    first = source.draw(QUERIES[0], 5)
    same = TaskItem(id="twin", media=(ImageSegment(url=first[1].media[0].url),))
    assert ids_of(source.draw(same, 4)) == [item.id for item in first if item is not first[1]]
    assert source.draw(QUERIES[1], 5) == first
    assert source.excluded == {"twin": 1}


@given(seeds, st.integers(0, 10))
def test_balanced_draws_take_classes_in_turn(seed, shots):
    """No class is more than one ahead of another, at any number of shots."""
    source = RandomShots(SUPPORT, task="t", seed=seed, balanced=True, classes=first_answer)
    counts = Counter(map(first_answer, source.draw(QUERIES[0], shots)))
    assert abs(counts["class 0"] - counts["class 1"]) <= 1


def test_a_class_that_runs_out_is_told():
    """A balanced draw never becomes another one in silence."""
    support = [an_item("s1"), *(an_item(f"s{number}") for number in range(10, 16))]
    source = RandomShots(support, task="t", seed=0, balanced=True, classes=first_answer)
    with pytest.raises(EvaluationError, match="^task 't': 4 shots of 2 classes in turns take 2 of class 'class 0'"):
        source.draw(QUERIES[0], 4)


def test_an_empty_support_gives_no_shots():
    """None may be asked for, and one is too many."""
    source = RandomShots([], task="t", seed=0)
    assert source.draw(QUERIES[0], 0) == ()
    balanced = RandomShots([], task="t", seed=0, balanced=True, classes=first_answer)
    for empty in (source, balanced):
        with pytest.raises(EvaluationError, match="^task 't' has no shots; ask it with 0 shots$"):
            empty.draw(QUERIES[0], 1)


def test_many_groups_are_drawn_again_alike(monkeypatch):
    """Orders that were forgotten for their number are those that they were."""
    monkeypatch.setattr(sys.modules[RandomShots.__module__], "_ORDERS_KEPT", 7)
    queries = [an_item(f"q{number}") for number in range(50)]
    source = RandomShots(SUPPORT, task="t", seed=0, num_groups=None)
    assert [source.draw(query, 3) for query in queries] == [source.draw(query, 3) for query in queries]


def test_it_is_a_source():
    """As the protocol has it."""
    assert isinstance(RandomShots([], task="t", seed=0), ShotSource)


def test_slips_are_told():
    """With the argument, what came and what is wanted."""
    with pytest.raises(ValueError, match="balanced is True and classes is None"):
        RandomShots(SUPPORT, task="t", seed=0, balanced=True)
    with pytest.raises(ValueError, match="num_groups is 0"):
        RandomShots(SUPPORT, task="t", seed=0, num_groups=0)
    with pytest.raises(ValueError, match="shots is -1, wanted 0 or more"):
        RandomShots(SUPPORT, task="t", seed=0).draw(QUERIES[0], -1)
    with pytest.raises(ValueError, match="groups has no group of query 'q0'"):
        RandomShots(SUPPORT, task="t", seed=0, groups={"q1": 0}).draw(QUERIES[0], 1)
    with pytest.raises(EvaluationError, match="the id 's20' comes twice in the support"):
        RandomShots([an_item("s20"), an_item("s20")], task="t", seed=0)
