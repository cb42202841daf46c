"""Area under the receiver operating curve."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.candidate_scores import Normalise, candidate_scores
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score, check_answers


def roc_auc(scores: Sequence[float], labels: Sequence[int]) -> float:
    """How often a positive scores higher than a negative, ties counting half.

    Args:
        scores: Score of each item.
        labels: 1 for a positive, 0 for a negative.

    Returns:
        From 0 to 1; 0.5 is chance.

    Raises:
        EvaluationError: If there are no positives or no negatives: then there is nothing to tell apart.
        ValueError: If the two differ in number, a label is neither 0 nor 1, or a score is no number.

    Example:
        >>> roc_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        0.75
    """
    if len(scores) != len(labels):
        raise ValueError(f"scores has {len(scores)} items, labels {len(labels)}; give one of each for every item")
    for place, (score, label) in enumerate(zip(scores, labels, strict=True)):
        if label not in {0, 1}:
            raise ValueError(f"labels[{place}] is {label!r}, wanted 0 or 1")
        if math.isnan(score):
            raise ValueError(f"scores[{place}] is nan, wanted a number")
    positives = sum(labels)
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise EvaluationError(
            f"labels has {positives} positives and {negatives} negatives, wanted one of each at least: the area is "
            "not defined"
        )
    halves = below = 0  # of pairs that are in order, in halves, so that they are counted exactly
    by_score = sorted(zip(scores, labels, strict=True))
    for _, group in groupby(by_score, key=lambda row: row[0]):
        tied = [label for _, label in group]
        up = sum(tied)
        halves += up * (2 * below + len(tied) - up)
        below += len(tied) - up
    return halves / (2 * positives * negatives)


@dataclass(frozen=True, kw_only=True)
class RocAuc:
    """Area under the receiver operating curve of log p(positive) - log p(negative), from 0 to 100.

    An item's label, 1 or 0, is `facts["label"]`; items without one do not count. Where all have the same label, as may
    happen among a few queries of a task, the area is not defined and there is no score.

    Args:
        candidates: The two answers, in the order of the task's candidates; an item's own come first.
        positive: The answer that stands for label 1.
        normalise: As in `candidate_scores`.

    Example:
        >>> def asked(name, label, *log_probs):
        ...     item = TaskItem(id=name, media=(), facts={"label": label})
        ...     return item, Prediction(task="memes", id=name, shots=0, seed=0, log_probs=log_probs)
        >>> items, said = zip(asked("1", 1, -0.1, -2.0), asked("2", 0, -0.4, -1.0), asked("3", 0, -2.0, -0.3))
        >>> RocAuc().score(items, said).value
        100.0
    """

    candidates: tuple[str, str] = ("yes", "no")
    positive: str = "yes"
    normalise: Normalise = "sum"

    @property
    def variant(self) -> str:
        """The rule."""
        return f"ROC AUC({self.normalise} of log-probs)"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score predictions by the log-probabilities of both answers.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Raises:
            EvaluationError: If a label is neither 1 nor 0, or log-probabilities are missing or not finite.
            ValueError: If items and predictions differ in number or in their ids.
        """
        scores, labels, _ = self._read(items, predictions)
        defined = len(set(labels)) == 2
        return Score(
            variant=self.variant,
            value=100 * roc_auc(scores, labels) if defined else None,
            counts={
                "asked": len(items),
                "scored": len(labels) if defined else 0,
                "positive": sum(labels),
                "without_answers": len(items) - len(labels),
                "of_one_label": 0 if defined else len(labels),
            },
        )

    def check_queries(self, items: Sequence[TaskItem]) -> None:
        """Refuse the queries of a task if there would be no area, whatever is answered.

        Args:
            items: All queries. Where none has a label, as in a split without answers, there is nothing to refuse.

        Raises:
            EvaluationError: If all labels are the same, or one is neither 1 nor 0; or a labelled query has candidates
                of its own that are not the two wanted.
        """
        labels = [label for _, label, _ in self._labelled(items)]
        if len(set(labels)) == 1:
            raise EvaluationError(
                f"each of the {len(labels)} queries with a label has label {labels[0]}, and ROC AUC compares those of "
                "label 1 with those of label 0; give queries of both, or take another metric"
            )

    def prepare(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Callable[[Tensor], float | None]:
        """Read everything once, to give the value for many sets in which items come several times or not at all.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Returns:
            Gives the value, or None where a set has only one label, from how often each item comes.

        Raises:
            ValueError: As `score`.
        """
        scores, labels, places = self._read(items, predictions)
        places_of = {score: place for place, score in enumerate(sorted(set(scores)))}
        steps = torch.tensor([places_of[score] for score in scores], dtype=torch.long)
        positive, there = torch.tensor(labels, dtype=torch.float64), torch.tensor(places, dtype=torch.long)

        def value(weights: Float[Tensor, " items"]) -> float | None:
            counted = weights[there]
            ups = torch.bincount(steps, counted * positive)
            downs = torch.bincount(steps, counted * (1 - positive))
            pairs = float(ups.sum() * downs.sum())
            return 100 * float((ups * (downs.cumsum(0) - downs / 2)).sum()) / pairs if pairs else None

        return value

    def _read(
        self, items: Sequence[TaskItem], predictions: Sequence[Prediction]
    ) -> tuple[list[float], list[int], list[int]]:
        """Scores, labels and places of the items that have a label."""
        check_answers(items, predictions)
        labelled = list(self._labelled(items))
        scores = []
        for place, _, positive in labelled:
            found = candidate_scores(predictions[place], number=2, normalise=self.normalise)
            scores.append(found[positive] - found[1 - positive])
        return scores, [label for _, label, _ in labelled], [place for place, *_ in labelled]

    def _labelled(self, items: Sequence[TaskItem]) -> Iterator[tuple[int, int, int]]:
        """Place and label of each item that has a label, and the place of the positive one among its candidates."""
        for place, item in enumerate(items):
            label = item.facts.get("label")
            if label is None:
                continue
            if label not in (0, 1):
                raise EvaluationError(f"query {item.id!r} has the label {label!r}, wanted 0 or 1")
            candidates = item.candidates or self.candidates
            if len(candidates) != 2 or self.positive not in candidates:
                raise EvaluationError(
                    f"query {item.id!r} has the candidates {candidates}, wanted two, {self.positive!r} among them"
                )
            yield place, int(label), candidates.index(self.positive)
