"""Which answer an item shows as a shot."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prompts import demo_answer

answers = st.lists(st.sampled_from(["a", "b", " a", "c "]), min_size=1, max_size=10)


def an_item(answers):
    return TaskItem(id="7", media=(), answers=tuple(answers))


@given(answers)
def test_the_majority_is_the_most_frequent_and_of_ties_the_first(answers):
    """White space at the ends tells no answers apart; the first rule takes what stands first."""
    stripped = [answer.strip() for answer in answers]
    counts = Counter(stripped)
    expected = next(answer for answer in stripped if counts[answer] == max(counts.values()))
    assert demo_answer(an_item(answers), "majority") == expected
    assert demo_answer(an_item(answers)) == demo_answer(an_item(answers), "first") == stripped[0]


def test_an_item_without_answers_is_no_shot():
    """The error names it."""
    with pytest.raises(EvaluationError, match="item '7' has no answer, so it cannot be a shot"):
        demo_answer(an_item([]))


@pytest.mark.usefixtures("without_shape_checks")
def test_an_unknown_rule_is_told():
    """With those that there are."""
    with pytest.raises(ValueError, match="rule is 'last', wanted one of 'first', 'majority'"):
        demo_answer(an_item(["a"]), "last")
