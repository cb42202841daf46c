"""Operator induction: two digits, and what is done with them is told by the shots alone."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flamingo_blocks.data import ImageSegment
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.synthetic.cut_exact_match import CutExactMatch
from flamingo_blocks.evaluation.synthetic.digit_pictures import (
    Side,
    Writing,
    picture_of_digit,
    picture_of_expression,
    writing_of,
)
from flamingo_blocks.evaluation.synthetic.episode import with_facts, with_shots_in_order
from flamingo_blocks.evaluation.synthetic.setting import Setting
from flamingo_blocks.evaluation.task import Task

OPERATORS: Mapping[str, Callable[[int, int], int]] = {
    "+": lambda one, other: one + other,
    "-": lambda one, other: one - other,
    "x": lambda one, other: one * other,
}
QUESTION = "The result is"
# The larger digit first, since the rule of scoring knows no minus; and without 2 and 2, whose sum is their product.
PAIRS = tuple((one, other) for one in range(1, 10) for other in range(1, one + 1) if (one, other) != (2, 2))


def operator_task(setting: Setting, *, interleaved: bool, digits: Writing | None) -> Task:
    """Say the result of two digits, by the operator that the shots were made with.

    Args:
        setting: What decides the task.
        interleaved: Two pictures of a digit each, in place of one picture of both and a question mark.
        digits: How they are written; None for by hand if scikit-learn is there.

    Raises:
        MissingDependencyError: If handwritten digits are asked for, and scikit-learn is not installed.
    """
    writing = writing_of(digits)

    def item(id_: str, name: str, side: Side, operator: str) -> TaskItem:
        pair = setting.choices(name).one(PAIRS, "digits")
        return TaskItem(
            id=id_,
            media=_images(setting, f"{writing}/{name}", pair, side=side, writing=writing, interleaved=interleaved),
            texts={"question": QUESTION},
            answers=(str(OPERATORS[operator](*pair)),),
            facts={"digits": pair, "operator": operator, "results": _results(pair), "writing": writing},
        )

    rows = [item(str(number), f"support/{number}", "support", "+") for number in range(setting.support)]
    rows_by = {operator: [[as_shot(row, operator)] for row in rows] for operator in OPERATORS}
    chance = most_frequent([results[name] for pair in PAIRS for results in [_results(pair)] for name in OPERATORS])

    def query(number: int) -> TaskItem:
        choices = setting.choices(f"query {number}")
        operator = choices.one(list(OPERATORS), "operator")
        asked = with_facts(item(str(number), f"query/{number}", "query", operator), chance=chance)
        return with_shots_in_order(asked, rows_by[operator], seed=setting.seed)

    return Task(
        name="operator_induction" + ("_interleaved" if interleaved else ""),
        kind="continue",
        answering="open",
        metrics=(CutExactMatch("first_integer"),),
        queries=tuple(query(number) for number in range(setting.queries)),
        max_new_tokens=15,
    )


def as_shot(row: TaskItem, operator: str) -> TaskItem:
    """A row of the support as a shot of queries with one operator.

    Args:
        row: Its `facts` have the results by operator.
        operator: `"+"`, `"-"` or `"x"`.
    """
    return TaskItem(
        id=f"{row.id}{operator}",
        media=row.media,
        texts=row.texts,
        answers=(str(row.facts["results"][operator]),),
        facts={**row.facts, "operator": operator, "row": row.id},
    )


def most_frequent(answers: "list[Any]") -> float:
    """Share of the most frequent answer in percent: what is right by always giving it.

    Args:
        answers: All answers, one at least.
    """
    return 100 * Counter(answers).most_common(1)[0][1] / len(answers)


def _results(pair: tuple[int, int]) -> dict[str, int]:
    return {operator: work_out(*pair) for operator, work_out in OPERATORS.items()}


def _images(
    setting: Setting, name: str, pair: tuple[int, int], *, side: Side, writing: Writing, interleaved: bool
) -> tuple[ImageSegment, ...]:
    options: dict[str, Any] = {"size": setting.size, "side": side, "writing": writing}
    if not interleaved:
        return (setting.image(name, partial(picture_of_expression, pair, **options)),)
    return tuple(
        setting.image(f"{name}-{place}", partial(picture_of_digit, digit, **options))
        for place, digit in enumerate(pair)
    )
