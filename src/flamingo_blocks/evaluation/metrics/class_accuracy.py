"""Accuracy where the answer is the likeliest of given candidates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.candidate_scores import (
    Normalise,
    candidate_scores,
    has_tie,
    place_of_best,
    right_candidate,
)
from flamingo_blocks.evaluation.metrics.read_answers import percent, percent_by, percents
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score, check_answers


def _ranks(
    items: Sequence[TaskItem], predictions: Sequence[Prediction], candidates: Sequence[str], normalise: Normalise
) -> tuple[list[int | None], int]:
    """Place of the right candidate for each item, None where there is none; and how many have a tie at the top."""
    check_answers(items, predictions)
    ranks: list[int | None] = []
    ties = 0
    for item, prediction in zip(items, predictions, strict=True):
        among = item.candidates or candidates
        right = right_candidate(item, among)
        if right is None:
            ranks.append(None)
            continue
        scores = candidate_scores(prediction, number=len(among), normalise=normalise)
        ranks.append(place_of_best(scores, of=right))
        ties += has_tie(scores)
    return ranks, ties


@dataclass(frozen=True, kw_only=True)
class ClassAccuracy:
    """Share of queries whose class is among the likeliest candidates, from 0 to 100.

    The right class is an item's first answer, or the candidate at `facts["class_index"]`. Of candidates that are
    equally likely the earlier stands first; queries with such a tie at the top are counted. Items without an answer do
    not count.

    Args:
        candidates: Names of all classes, in the order of the log-probabilities; an item's own come first.
        top: Numbers of candidates among which the class may be; the value is the mean over them: `(1,)` for ImageNet,
            `(1, 5)` for Kinetics700.
        normalise: As in `candidate_scores`.

    Raises:
        ValueError: If `top` is empty or has a number below 1.

    Example:
        >>> item = TaskItem(id="1", media=(), answers=("cat",))
        >>> said = Prediction(task="imagenet", id="1", shots=0, seed=0, log_probs=(-2.0, -3.0, -4.0))
        >>> score = ClassAccuracy(candidates=("dog", "cat", "car"), top=(1, 2)).score([item], [said])
        >>> score.value, score.parts
        (50.0, {'top-1': 0.0, 'top-2': 100.0})
    """

    candidates: tuple[str, ...] = ()
    top: tuple[int, ...] = (1,)
    normalise: Normalise = "sum"

    def __post_init__(self) -> None:
        if not self.top or min(self.top) < 1:
            raise ValueError(f"top is {self.top}, wanted numbers of candidates from 1 up, such as (1, 5)")

    @property
    def variant(self) -> str:
        """The rule."""
        tops = " and ".join(f"top-{number}" for number in self.top)
        return f"{'mean of ' if len(self.top) > 1 else ''}{tops}({self.normalise} of log-probs)"

    def check_queries(self, items: Sequence[TaskItem]) -> None:
        """Whether each right answer is a candidate, seen before anything is asked.

        Args:
            items: All queries of a task.

        Raises:
            EvaluationError: If an answer is no candidate.
        """
        for item in items:
            right_candidate(item, item.candidates or self.candidates)

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score rankings.

        Args:
            items: The queries.
            predictions: The log-probabilities of every candidate for each.

        Raises:
            EvaluationError: If an answer is no candidate, or log-probabilities are missing or not finite.
            ValueError: If items and predictions differ in number or in their ids.
        """
        ranks, ties = _ranks(items, predictions, self.candidates, self.normalise)
        shares = [None if rank is None else sum(rank < top for top in self.top) / len(self.top) for rank in ranks]
        there = [rank for rank in ranks if rank is not None]
        return Score(
            variant=self.variant,
            value=percent(shares),
            per_item=percents(shares),
            counts={
                "asked": len(items),
                "scored": len(there),
                "without_answers": len(items) - len(there),
                "ties": ties,
            },
            parts={f"top-{top}": 100 * sum(rank < top for rank in there) / len(there) for top in self.top if there},
        )


@dataclass(frozen=True, kw_only=True)
class StarAccuracy:
    """Accuracy on STAR: the mean over the types of questions, with each type and the mean over questions as parts.

    `facts["question_type"]` is the type, the candidates are each item's own. Types have from 490 to 3,586 questions in
    the validation split, so the two means differ. Items without an answer do not count.

    Args:
        normalise: As in `candidate_scores`.

    Example:
        >>> def asked(name, kind, *log_probs):
        ...     facts = {"question_type": kind}
        ...     item = TaskItem(id=name, media=(), answers=("a",), candidates=("a", "b"), facts=facts)
        ...     return item, Prediction(task="star", id=name, shots=0, seed=0, log_probs=log_probs)
        >>> items, said = zip(
        ...     asked("1", "Sequence", -1, -2), asked("2", "Sequence", -2, -1), asked("3", "Feasibility", -1, -2)
        ... )
        >>> score = StarAccuracy().score(items, said)
        >>> score.value, round(score.parts["micro"], 1)
        (75.0, 66.7)
    """

    normalise: Normalise = "sum"

    @property
    def variant(self) -> str:
        """The rule."""
        return f"accuracy(macro over question types, {self.normalise} of log-probs)"

    def check_queries(self, items: Sequence[TaskItem]) -> None:
        """Whether each right answer is a candidate, seen before anything is asked.

        Args:
            items: All queries of a task.

        Raises:
            EvaluationError: If an answer is no candidate.
        """
        for item in items:
            right_candidate(item, item.candidates)

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score choices.

        Args:
            items: The queries.
            predictions: The log-probabilities of every candidate for each.

        Raises:
            EvaluationError: If an item has no type, an answer is no candidate, or log-probabilities are missing or not
                finite.
            ValueError: If items and predictions differ in number or in their ids.
        """
        ranks, ties = _ranks(items, predictions, (), self.normalise)
        right = [None if rank is None else float(rank == 0) for rank in ranks]
        types = percent_by([_type(item) for item in items], right)
        micro = percent(right)
        scored = sum(share is not None for share in right)
        return Score(
            variant=self.variant,
            value=sum(types.values()) / len(types) if types else None,
            counts={"asked": len(items), "scored": scored, "without_answers": len(items) - scored, "ties": ties},
            parts={} if micro is None else {**types, "micro": micro},
        )

    def prepare(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Callable[[Tensor], float | None]:
        """Read everything once, to give the value for many sets in which items come several times or not at all.

        Args:
            items: The queries.
            predictions: The log-probabilities of every candidate for each.

        Returns:
            Gives the value from how often each item comes.

        Raises:
            ValueError: As `score`.
        """
        ranks, _ = _ranks(items, predictions, (), self.normalise)
        names = [_type(item) for item in items]
        there = torch.tensor([rank is not None for rank in ranks], dtype=torch.float64)
        right = torch.tensor([rank == 0 for rank in ranks], dtype=torch.float64)
        rows = torch.tensor([sorted(set(names)).index(name) for name in names], dtype=torch.long)

        def value(weights: Float[Tensor, " items"]) -> float | None:
            numbers = torch.bincount(rows, weights * there)
            hits = torch.bincount(rows, weights * right)
            kept = numbers > 0
            return float((100 * hits[kept] / numbers[kept]).mean()) if bool(kept.any()) else None

        return value


def _type(item: TaskItem) -> str:
    if "question_type" not in item.facts:
        raise EvaluationError(f"query {item.id!r} lacks the fact 'question_type', which the mean is taken over")
    return str(item.facts["question_type"])
