"""Shares of answers that equal what people answered, to the letter or nearly."""

from collections.abc import Sequence
from dataclasses import dataclass

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.normalise_vqa import normalise_vqa
from flamingo_blocks.evaluation.metrics.score_answers import score_answers
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score

ENOUGH = 2  # of the five people who gave an answer, for it to be right


def plain_answer(text: str) -> str:
    """An answer in lower case, without white space around it and without a final period.

    Args:
        text: An answer.

    Returns:
        What is compared.

    Example:
        >>> plain_answer(" A guitar. ")
        'a guitar'
    """
    return text.strip().lower().removesuffix(".").rstrip()


def top1(prediction: str, answers: Sequence[str]) -> float:
    """Whether an answer is one of those that count as right, but for case, white space and a final period.

    Args:
        prediction: The predicted answer.
        answers: What counts as right: one answer, in the official files of MSVD-QA and MSRVTT-QA.

    Returns:
        1 or 0.

    Example:
        >>> top1("Guitar.", ["guitar"]), top1("a guitar", ["guitar"])
        (1.0, 0.0)
    """
    return float(plain_answer(prediction) in map(plain_answer, answers))


def normalised_top1(prediction: str, answers: Sequence[str]) -> float:
    """Whether an answer is one of those that count as right, in the normal form of VQA.

    Args:
        prediction: The predicted answer.
        answers: What counts as right.

    Returns:
        1 or 0.

    Example:
        >>> normalised_top1("a guitar", ["guitar"])
        1.0
    """
    return float(normalise_vqa(prediction) in map(normalise_vqa, answers))


def ivqa_accuracy(prediction: str, answers: Sequence[str]) -> float:
    """Share of an answer that is right on iVQA: half for each of five people who gave it, 1 at most.

    Args:
        prediction: The predicted answer.
        answers: What people answered.

    Returns:
        0, 0.5 or 1.

    Example:
        >>> ivqa_accuracy("Knife.", ["knife", "fork", "fork", "spoon", "spoon"])
        0.5

    Source:
        Yang et al. (arXiv 2012.00451), section 5. Case, white space around it and a final period do not count.
    """
    plain = plain_answer(prediction)
    return min(1.0, sum(plain_answer(answer) == plain for answer in answers) / ENOUGH)


def _normalised_ivqa(prediction: str, answers: Sequence[str]) -> float:
    return ivqa_accuracy(normalise_vqa(prediction), [normalise_vqa(answer) for answer in answers])


@dataclass(frozen=True, kw_only=True)
class ExactMatch:
    """Share of answers that equal one that counts as right, from 0 to 100; in the normal form of VQA as a part.

    Items without answers do not count. `facts["question_type"]` makes parts.

    Example:
        >>> items = [TaskItem(id=name, media=(), answers=("guitar",)) for name in "ab"]
        >>> said = [Prediction(task="msvdqa", id=name, shots=0, seed=0, answer=text) for name, text in
        ...         [("a", "Guitar"), ("b", "a guitar")]]
        >>> score = ExactMatch().score(items, said)
        >>> score.value, score.parts
        (50.0, {'top-1(VQA-normalised)': 100.0})
    """

    @property
    def variant(self) -> str:
        """The rule."""
        return "top-1(lower, strip, period)"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score answers.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids.
        """
        return score_answers(items, predictions, {self.variant: top1, "top-1(VQA-normalised)": normalised_top1})


@dataclass(frozen=True, kw_only=True)
class IvqaAccuracy:
    """Accuracy on iVQA, from 0 to 100; in the normal form of VQA as a part.

    Items without answers do not count. `facts["question_type"]` makes parts.

    Example:
        >>> item = TaskItem(id="1", media=(), answers=("knife", "fork", "fork", "spoon", "spoon"))
        >>> IvqaAccuracy().score([item], [Prediction(task="ivqa", id="1", shots=0, seed=0, answer="knife")]).value
        50.0
    """

    @property
    def variant(self) -> str:
        """The rule."""
        return "iVQA(lower, strip, period)"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score answers.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids.
        """
        return score_answers(
            items, predictions, {self.variant: ivqa_accuracy, "iVQA(VQA-normalised)": _normalised_ivqa}
        )
