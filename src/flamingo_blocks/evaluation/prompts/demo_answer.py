"""Which of its answers an item shows as a shot."""

from collections import Counter
from typing import Literal, get_args

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem

DemoAnswer = Literal["first", "majority"]


def demo_answer(item: TaskItem, rule: DemoAnswer = "first") -> str:
    """The answer that an item shows as a shot.

    Args:
        item: An item of the support.
        rule: `"first"`, as OpenFlamingo does; or `"majority"`: the most frequent, of several the one that comes first.

    Raises:
        ValueError: If `rule` is none of these.
        EvaluationError: If the item has no answer.

    Example:
        >>> item = TaskItem(id="7", media=(), answers=("a net", "net", "net "))
        >>> demo_answer(item), demo_answer(item, "majority")
        ('a net', 'net')
    """
    if rule not in get_args(DemoAnswer):
        raise ValueError(f"rule is {rule!r}, wanted one of {', '.join(map(repr, get_args(DemoAnswer)))}")
    answers = [answer.strip() for answer in item.answers]
    if not answers:
        raise EvaluationError(
            f"item {item.id!r} has no answer, so it cannot be a shot; take the support from a split with answers"
        )
    return answers[0] if rule == "first" else Counter(answers).most_common(1)[0][0]
