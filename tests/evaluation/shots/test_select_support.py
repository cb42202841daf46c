"""Which items of a training split shots are drawn from."""

from collections import Counter
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.shots import keyed_order, paper_subsets, select_support

numbers = st.lists(st.integers(0, 99), unique=True, max_size=20)


def items_of(numbers):
    return [TaskItem(id=str(number), media=()) for number in numbers]


def ids_of(items):
    return [item.id for item in items]


def parity(item):
    return "odd" if int(item.id) % 2 else "even"


@given(numbers, st.integers(1, 8), st.randoms(use_true_random=False))
def test_support_is_the_first_of_an_order(numbers, size, random):
    """Whatever the order of the file; all where there are few."""
    found = ids_of(select_support(items_of(numbers), task="t", size=size))
    assert found == keyed_order(map(str, numbers), task="t", purpose="support", seed=0)[:size]
    assert ids_of(select_support(items_of(random.sample(numbers, len(numbers))), task="t", size=size)) == found


@given(numbers, st.integers(1, 3))
def test_every_class_has_its_own_size(numbers, size):
    """With classes, the smallest hashes of each."""
    found = select_support(items_of(numbers), task="t", size=size, classes=parity)
    for name in ("odd", "even"):
        own = [item for item in items_of(numbers) if parity(item) == name]
        mine = [item for item in found if parity(item) == name]
        assert ids_of(mine) == ids_of(select_support(own, task="t", size=size))


@given(numbers, st.integers(1, 8), st.sets(st.integers(0, 99)))
def test_what_cannot_be_shown_is_replaced_by_the_next(numbers, size, missing):
    """Those that can be shown are asked for no longer than until there are enough."""
    asked = []

    def usable(item):
        asked.append(item.id)
        return int(item.id) not in missing

    found = select_support(items_of(numbers), task="t", size=size, usable=usable)
    there = [number for number in numbers if number not in missing]
    assert ids_of(found) == ids_of(select_support(items_of(there), task="t", size=size))
    assert asked == keyed_order(map(str, numbers), task="t", purpose="support", seed=0)[: len(asked)]
    assert len(found) < size or asked[-1] == found[-1].id


@given(st.integers(1, 4), st.integers(1, 4))
def test_subsets_are_disjoint(support, val_query):
    """Of the sizes asked for; the support of the test is that which is taken without them."""
    items = items_of(range(2 * support + val_query + 3))
    found = paper_subsets(items, task="t", val_query=val_query, support=support)
    parts = [ids_of(part) for part in (found.test_support, found.val_support, found.val_query)]
    assert list(map(len, parts)) == [support, support, val_query]
    assert max(Counter(chain(*parts)).values()) == 1
    assert parts[0] == ids_of(select_support(items, task="t", size=support))


def test_subsets_by_class():
    """Each class has all three."""
    found = paper_subsets(items_of(range(20)), task="t", val_query=2, support=3, classes=parity)
    assert Counter(map(parity, found.val_query)) == {"odd": 2, "even": 2}
    assert Counter(map(parity, found.val_support)) == {"odd": 3, "even": 3}


def test_too_few_items_are_told():
    """With both numbers, and the class."""
    with pytest.raises(EvaluationError, match="task 't' has 9 items for training, and its subsets take 10"):
        paper_subsets(items_of(range(9)), task="t", val_query=2, support=4)
    with pytest.raises(EvaluationError, match="has 4 items of class 'odd' for training, and its subsets take 5"):
        paper_subsets(items_of(range(9)), task="t", val_query=1, support=2, classes=parity)


def test_an_id_may_come_once():
    """The error names it."""
    with pytest.raises(EvaluationError, match="the id '1' comes twice in the support"):
        select_support(items_of([1, 2, 1]), task="t")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: select_support([], task="t", size=0), "size is 0, wanted 1 or more"),
        (lambda: paper_subsets([], task="t", support=0), "support is 0, wanted 1 or more"),
        (lambda: paper_subsets([], task="t", val_query=-1), "val_query is -1, wanted 1 or more"),
    ],
)
def test_sizes_that_are_none_are_told(call, said):
    """With what is wanted."""
    with pytest.raises(ValueError, match=said):
        call()
