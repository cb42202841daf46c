"""Exact match by the rules of VL-ICL Bench: what was written is cut, and compared without regard to case."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score, check_answers

CutRule = Literal["exact", "contains_yes", "first_integer"]


@dataclass(frozen=True)
class CutExactMatch:
    """Share of answers that are right after the cut of VL-ICL Bench, in percent.

    What was written is stripped and cut at its first line break; without one, at its first period. Cases are one.

    Args:
        rule: `"exact"`: what is left equals the answer. `"contains_yes"`: it has `yes` in it where the answer is
            `yes`, and has not where the answer is `no`. `"first_integer"`: its first run of digits equals the answer;
            a minus before it is not read.

    Raises:
        ValueError: If `rule` is another word.

    Example:
        >>> item = TaskItem(id="0", media=(), answers=("dax",))
        >>> written = Prediction(task="binding", id="0", shots=2, seed=0, answer=" Dax. This is a wug.")
        >>> CutExactMatch().score([item], [written]).value
        100.0

    Source:
        VL-ICL Bench (arXiv 2403.13164), as its evaluation code does it: a period at the very start cuts nothing, and
        what the cut leaves is not stripped again.
    """

    rule: CutRule = "exact"

    def __post_init__(self) -> None:
        if self.rule not in get_args(CutRule):
            raise ValueError(f"rule is {self.rule!r}, wanted one of {', '.join(map(repr, get_args(CutRule)))}")

    @property
    def variant(self) -> str:
        """The rule in a word."""
        return f"accuracy(vl-icl cut, {self.rule.replace('_', ' ')})"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score predictions, one for each item, in order.

        Args:
            items: The queries; one without an answer does not count.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids, or the answer to a `"contains_yes"` question is
                neither yes nor no.
        """
        check_answers(items, predictions)
        found = tuple(
            self._one(item, prediction) if item.answers else None
            for item, prediction in zip(items, predictions, strict=True)
        )
        scored = [value for value in found if value is not None]
        return Score(
            variant=self.variant,
            value=sum(scored) / len(scored) if scored else None,
            per_item=found,
            counts={"scored": len(scored), "without_answer": len(found) - len(scored)},
        )

    def _one(self, item: TaskItem, prediction: Prediction) -> float:
        cut, answer = cut_answer(_written(prediction)).lower(), item.answers[0].lower()
        if self.rule == "contains_yes":
            if answer not in {"yes", "no"}:
                raise ValueError(f"the answer of item {item.id!r} is {item.answers[0]!r}, wanted yes or no")
            return 100.0 * (("yes" in cut) == (answer == "yes"))
        if self.rule == "first_integer":
            number = re.search(r"\d+", cut)
            cut = number.group() if number else ""
        return 100.0 * (cut == answer)


def cut_answer(text: str) -> str:
    """What VL-ICL Bench keeps of a text: up to the first line break; without one, up to the first period.

    Args:
        text: What was written.

    Example:
        >>> cut_answer(" 3. Because there are 3.")
        '3'
    """
    text = text.strip()
    end = text.find("\n")
    if end < 0:
        end = text.find(".")
    return text[:end] if end > 0 else text


def _written(prediction: Prediction) -> str:
    """The answer; only up to its first line break, which the clean-up may have made a space."""
    line = (prediction.raw or "").strip().partition("\n")[0]
    return line if line and prediction.answer.strip().startswith(line) else prediction.answer
