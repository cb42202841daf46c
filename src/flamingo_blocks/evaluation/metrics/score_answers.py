"""Scores of written answers whose value is a mean over the items."""

from collections.abc import Callable, Mapping, Sequence

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.read_answers import percent, percent_by, percents, read_answers
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score

Rule = Callable[[str, Sequence[str]], float]


def score_answers(
    items: Sequence[TaskItem],
    predictions: Sequence[Prediction],
    rules: Mapping[str, Rule],
    *,
    parted_by: Sequence[str] = ("answer_type", "question_type"),
) -> Score:
    """Score each answer against those that count as right.

    Args:
        items: The queries; those without answers do not count.
        predictions: What was answered to each.
        rules: By variant, what gives the share from 0 to 1 that is right of `(prediction, answers)`. The first is the
            score, the values of the others are given as parts, by their variants.
        parted_by: Names of facts that part the items.

    Returns:
        The score, in percent.

    Raises:
        ValueError: If items and predictions differ in number or in their ids.
    """
    said, counts = read_answers(items, predictions)
    asked = list(zip(items, said, strict=True))
    (variant, headline), *beside = rules.items()
    shares = [headline(answer, item.answers) if item.answers else None for item, answer in asked]
    parts = {
        name: percent(rule(answer, item.answers) for item, answer in asked if item.answers) for name, rule in beside
    }
    by_fact: dict[str, float] = {}
    for fact in parted_by:
        there = [place for place, item in enumerate(items) if fact in item.facts]
        names = [f"{fact} {items[place].facts[fact]}" for place in there]
        by_fact.update(percent_by(names, [shares[place] for place in there]))
    scored = sum(share is not None for share in shares)
    return Score(
        variant=variant,
        value=percent(shares),
        per_item=percents(shares),
        counts={**counts, "scored": scored, "without_answers": len(items) - scored},
        parts={**{name: value for name, value in parts.items() if value is not None}, **by_fact},
    )
