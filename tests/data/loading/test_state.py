"""A state of other data is refused, with what differs."""

import json
from dataclasses import replace

import pytest

from flamingo_blocks.data.loading import DataStream, Mixture
from flamingo_blocks.data.loading import order as order_module
from tests.data.loading.toy_sources import Numbers, source, three_sources


def state_of(sources, seed=3):
    return json.loads(json.dumps(Mixture(sources, seed=seed).state_dict()))


def test_a_state_is_small_and_tells_what_it_counts():
    """One number for each source, and what decides which batches those were; JSON gives it back."""
    state = DataStream(source(), seed=3).state_dict()
    assert state == {
        "order": 1,
        "seed": 3,
        "sources": {"numbers": {"batches": 0, "batch_size": 4, "size": 23, "shuffle": True, "data": "numbers"}},
    }
    assert len(json.dumps(state_of(three_sources()))) < 800
    assert json.loads(json.dumps(state)) == state


@pytest.mark.parametrize(
    ("changed", "seed", "says"),
    [
        ({}, 4, "seed is 3 in the state and 4 here"),
        ({"batch_size": 8}, 3, "batch_size of source 'pages' is 4 in the state and 8 here"),
        ({"shuffle": False}, 3, "shuffle of source 'pages' is True in the state and False here"),
        ({"name": "books"}, 3, "source 'books' is only here; source 'pages' is only in the state"),
        ({"documents": Numbers(24)}, 3, "size of source 'pages' is 23 in the state and 24 here"),
        (
            {"documents": Numbers(23, fingerprint="b")},
            3,
            "data of source 'pages' is 'numbers' in the state and 'b' here",
        ),
        ({"documents": range(23), "batch_size": 2}, 4, "seed is .*; batch_size of .*; data of .*'numbers'.* None here"),
    ],
)
def test_a_state_of_other_data_is_refused(changed, seed, says):
    """The error names all that differs, with both values."""
    pages, *others = three_sources()
    other = Mixture([replace(pages, **changed), *others], seed=seed)
    with pytest.raises(ValueError, match=f"state does not belong to these sources: {says}"):
        other.load_state_dict(state_of(three_sources()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda mixed: replace(mixed, shares={"clips": 1, "texts": 2}),
            r"shares of source 'mixed' is \[\['clips', 1\]",
        ),
        (lambda mixed: replace(mixed, sources=mixed.sources[::-1]), r"shares of source 'mixed'"),
        (
            lambda mixed: replace(mixed, sources=[replace(mixed.sources[0], documents=Numbers(6)), mixed.sources[1]]),
            "size of 'clips' of source 'mixed' is 5 in the state and 6 here",
        ),
    ],
)
def test_other_shares_or_parts_are_refused(change, says):
    """The facts of an interleaved source are those of its parts, and their shares in order."""
    pages, pairs, mixed = three_sources()
    with pytest.raises(ValueError, match=says):
        Mixture([pages, pairs, change(mixed)], seed=3).load_state_dict(state_of(three_sources()))


def test_weights_and_documents_elsewhere_do_not_matter():
    """A weight is the trainer's affair, and the same documents may lie in another folder or be of another class."""
    pages, *others = three_sources()
    moved, state = Mixture([replace(pages, weight=0.5), *others], seed=3), state_of(three_sources())
    moved.load_state_dict(state)
    assert moved.state_dict()["sources"] == state["sources"]


def test_a_state_of_another_order_is_refused(monkeypatch):
    """Code that orders samples in another way has another version of the order."""
    state = DataStream(source(), seed=3).state_dict()
    monkeypatch.setattr(order_module, "VERSION", 2)
    with pytest.raises(ValueError, match="order is 1 in the state and 2 here"):
        DataStream(source(), seed=3).load_state_dict(state)


@pytest.mark.parametrize("number", [-1, 1.0, "1", None, True])
def test_a_number_of_batches_is_a_number(number):
    """Whatever else stands for it is refused."""
    stream = DataStream(source(), seed=3)
    state = stream.state_dict()
    state["sources"]["numbers"]["batches"] = number
    with pytest.raises(ValueError, match="state has .* batches of source 'numbers', wanted a number of 0 or more"):
        stream.load_state_dict(state)


@pytest.mark.parametrize("state", [{}, {"sources": 3}, {"sources": {"numbers": {}}}, {"sources": {"numbers": 1}}])
def test_what_is_no_state_is_refused(state):
    """A dictionary of another shape is not taken for a state."""
    with pytest.raises(ValueError, match="wanted what `state_dict` of a stream or mixture gave"):
        DataStream(source(), seed=3).load_state_dict(state)


def test_a_refused_state_changes_nothing():
    """The stream stands where it stood."""
    stream = DataStream(source(), seed=3)
    next(stream)
    before = stream.state_dict()
    with pytest.raises(ValueError, match="seed"):
        stream.load_state_dict({**before, "seed": 4})
    assert stream.state_dict() == before
