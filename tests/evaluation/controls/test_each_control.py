"""Each control changes what it says, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation import TaskItem
from flamingo_blocks.evaluation.controls import CONTROLS, AtHand, Shown, ShownShot, find_control


def make_item(name: str, cluster: str = "") -> TaskItem:
    return TaskItem(
        id=name, media=(ImageSegment(url=f"{name}.png"),), texts={"question": f"{name}?"}, cluster=cluster or name
    )


def make_shown(count: int, name: str = "query") -> Shown:
    shots = (ShownShot(item=make_item(f"shot{number}"), answer=f"answer{number}") for number in range(count))
    return Shown(shots=tuple(shots), query=make_item(name))


def at_hand(seed: int = 0, queries: tuple[TaskItem, ...] = ()) -> AtHand:
    return AtHand(
        task="t", seed=seed, queries=queries or tuple(make_item(f"q{number}") for number in range(5)),
        blank=lambda segment: ImageSegment(url="blank"),
    )  # fmt: skip


def told(shown: Shown) -> dict[str, object]:
    """What a prompt holds, part by part."""
    return {
        "ids": [shot.item.id for shot in shown.shots],
        "texts": [dict(shot.item.texts) for shot in shown.shots],
        "answers": [shot.answer for shot in shown.shots],
        "images": [[one.url for one in shot.item.media] for shot in shown.shots],
        "tags": [shot.with_media for shot in shown.shots],
        "query": (shown.query.id, dict(shown.query.texts)),
        "query image": [one.url for one in shown.query.media],
        "query tag": shown.query_with_media,
    }


CHANGES = {
    "none": set(),
    "gates_closed": set(),
    "text_only": {"tags"},
    "no_shot_images": {"images"},
    "shuffle_images": {"images"},
    "shuffle_labels": {"answers"},
    "shuffle_order": {"ids", "texts", "answers", "images"},
    "blind": {"query tag"},
    "swap_query_image": {"query image"},
}


@pytest.mark.parametrize("name", CONTROLS)
@given(count=st.integers(0, 6), seed=st.integers(0, 99))
def test_a_control_changes_its_own_part_alone(name, count, seed):
    """Whatever a control does not name stays as it was; the parts that it moves are the same as a whole."""
    shown = make_shown(count)
    before, after = told(shown), told(find_control(name).change(shown, at_hand(seed)))
    assert {part for part in before if before[part] != after[part]} <= CHANGES[name]
    for part in ("ids", "answers"):
        assert sorted(after[part]) == sorted(before[part])
    if name.startswith("shuffle"):
        assert sorted(after["images"]) == sorted(before["images"])


@pytest.mark.parametrize("name", sorted(CHANGES.keys() - {"none", "gates_closed"}))
def test_a_control_changes_something(name):
    """With shots enough, each control does what it says for some seed."""
    shown = make_shown(4)
    assert any(told(find_control(name).change(shown, at_hand(seed))) != told(shown) for seed in range(5))


@given(count=st.integers(2, 8), seed=st.integers(0, 99))
def test_no_shot_keeps_its_answer(count, seed):
    """Where answers change places, each shot gets that of another."""
    shown = make_shown(count)
    changed = find_control("shuffle_labels").change(shown, at_hand(seed))
    assert all(one.answer != two.answer for one, two in zip(shown.shots, changed.shots, strict=True))


@pytest.mark.parametrize("name", ("shuffle_images", "shuffle_labels", "shuffle_order"))
@given(count=st.integers(2, 6), seed=st.integers(0, 99))
def test_queries_of_one_prompt_share_what_is_drawn(name, count, seed):
    """What is drawn depends on the shots, and not on the query, so that the prompt still runs once."""
    one, two = (find_control(name).change(make_shown(count, query), at_hand(seed)) for query in ("a", "b"))
    assert told(one) | {"query": 0, "query image": 0} == told(two) | {"query": 0, "query image": 0}


def test_order_moves_whole_shots():
    """A shot in another place keeps its text, answer and image."""
    changed = find_control("shuffle_order").change(make_shown(5), at_hand(3))
    for shot in changed.shots:
        number = shot.item.id.removeprefix("shot")
        assert (shot.answer, shot.item.media[0].url) == (f"answer{number}", f"shot{number}.png")


def test_a_query_never_gets_its_own_picture_in_exchange():
    """The image in exchange is of another cluster; without one the control is refused."""
    own = make_item("q", cluster="picture")
    others = (own, make_item("same", cluster="picture"), make_item("other"))
    shown = Shown(shots=(), query=own)
    for seed in range(10):
        changed = find_control("swap_query_image").change(shown, at_hand(seed, others))
        assert changed.query.media[0].url == "other.png"
    with pytest.raises(EvaluationError, match="no other query has 1 images of another picture than query 'q'"):
        find_control("swap_query_image").change(shown, at_hand(0, others[:2]))


def test_an_unknown_control_is_refused():
    """The error lists those that there are."""
    with pytest.raises(EvaluationError, match="controls has 'shuffle', wanted some of gates_closed, text_only"):
        find_control("shuffle")
