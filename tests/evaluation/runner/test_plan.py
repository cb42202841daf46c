"""What is asked, in which order, and by which process."""

from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.controls import Shown, ShownShot
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.runner.plan import Asked, drop_oldest, in_order, part_of_rank


def make_item(name: str) -> TaskItem:
    return TaskItem(id=name, media=(ImageSegment(url=f"{name}.png"),), answers=(f"a {name}",))


def make_asked(query: str, shots: list[str]) -> Asked:
    shown = Shown(
        shots=tuple(ShownShot(item=make_item(shot), answer=f"a {shot}") for shot in shots), query=make_item(query)
    )
    return Asked(blank=Prediction(task="t", id=query, shots=len(shots), seed=0, shot_ids=tuple(shots)), shown=shown)


# Pairs of a number and shots. Items are made of them in the tests: shape checks draw at random, which no strategy may.
draws = st.lists(st.tuples(st.integers(0, 99), st.lists(st.sampled_from("abcd"), max_size=4)), max_size=12)


def make_all(pairs: list[tuple[int, list[str]]]) -> list[Asked]:
    return [make_asked(f"q{number}-{place}", shots) for place, (number, shots) in enumerate(pairs)]


@given(draws, st.randoms(use_true_random=False))
def test_order_does_not_depend_on_the_order_that_came(pairs, random):
    """Prompts and their queries stand in one order, whatever order they were planned in."""
    asked = make_all(pairs)
    shuffled = random.sample(asked, len(asked))
    keys = [[each.blank.key for each in queries] for queries in in_order(asked)]
    assert keys == [[each.blank.key for each in queries] for queries in in_order(shuffled)]


@given(draws)
def test_a_prompt_stands_before_those_that_go_on_from_it(pairs):
    """A prompt stands directly before all those that begin with it."""
    prompts = [queries[0].prompt_key for queries in in_order(make_all(pairs))]
    for place, shorter in enumerate(prompts):
        longer = [other for other, key in enumerate(prompts) if key[: len(shorter)] == shorter]
        assert longer == list(range(place, place + len(longer)))


@given(draws, st.integers(1, 5))
def test_every_query_is_asked_by_one_process(pairs, ranks):
    """The shares of all processes are all queries, each once, and differ by one in size at most."""
    prompts = in_order(make_all(pairs))
    parts = [part_of_rank(prompts, rank=rank, ranks=ranks) for rank in range(ranks)]
    found = [each.blank.key for part in parts for queries in part for each in queries]
    assert found == [each.blank.key for queries in prompts for each in queries]
    sizes = [sum(map(len, part)) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_the_oldest_shots_go_first():
    """Shots that do not fit are left out from the front, and counted."""
    kept = drop_oldest(make_asked("q", ["a", "b", "c"]), 2)
    assert (kept.blank.shot_ids, kept.blank.dropped_shots) == (("c",), 2)
    assert [shot.item.id for shot in kept.shown.shots] == ["c"]
