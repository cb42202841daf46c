"""How well candidates are ranked where several are right to some degree, and where one is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.candidate_scores import Normalise, candidate_scores, place_of_best
from flamingo_blocks.evaluation.metrics.read_answers import percent, percents
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score, check_answers

RECALLS = (1, 5, 10)


def ndcg(scores: Sequence[float], relevance: Sequence[float]) -> float:
    """Normalised discounted cumulative gain over the best k, where k candidates are relevant at all.

    Args:
        scores: Score of each candidate; of equals the earlier stands first.
        relevance: How right each is, from 0.

    Returns:
        From 0 to 1; 1 where the k relevant ones stand first, in the order of their relevance.

    Raises:
        ValueError: If the two differ in number, no candidate is relevant, or a relevance is negative or no number.

    Example:
        >>> round(ndcg([0.1, 0.9, 0.4, 0.7], [0, 0.5, 1, 0.2]), 6)
        0.79563

    Source:
        Das et al. (arXiv 1611.08669), as the challenge on visual dialogue computes it: with 1 / log2(rank + 1).
    """
    if len(scores) != len(relevance):
        raise ValueError(f"scores has {len(scores)} candidates, relevance {len(relevance)}; give one of each for all")
    for place, value in enumerate(relevance):
        if not value >= 0 or math.isinf(value):
            raise ValueError(f"relevance[{place}] is {value!r}, wanted a number from 0 up")
    ideal = sorted((value for value in relevance if value > 0), reverse=True)
    if not ideal:
        raise ValueError("relevance is all zero; give one relevant candidate at least, or leave the item out")
    order = sorted(range(len(scores)), key=lambda place: -scores[place])
    return _gain([relevance[place] for place in order[: len(ideal)]]) / _gain(ideal)


def _gain(relevance: Sequence[float]) -> float:
    return math.fsum(value / math.log2(rank + 1) for rank, value in enumerate(relevance, start=1))


@dataclass(frozen=True, kw_only=True)
class Ndcg:
    """NDCG of dialogue answers ranked by their log-likelihood, from 0 to 100, with ranks of the human answer as parts.

    `facts["relevance"]` has the relevance of each candidate; items without it, or with none that is relevant, do not
    count. `facts["gt_index"]` says which candidate the human gave: where it is known, mean reciprocal rank `mrr` and
    `r@1`, `r@5`, `r@10` in percent and `mean_rank` are parts.

    Args:
        normalise: As in `candidate_scores`.

    Example:
        >>> item = TaskItem(id="1", media=(), facts={"relevance": [0, 0.5, 1], "gt_index": 1})
        >>> said = Prediction(task="visdial", id="1", shots=0, seed=0, log_probs=(-9.0, -2.0, -1.0))
        >>> score = Ndcg().score([item], [said])
        >>> score.value, score.parts["mrr"], score.parts["mean_rank"]
        (100.0, 50.0, 2.0)
    """

    normalise: Normalise = "sum"

    @property
    def variant(self) -> str:
        """The rule."""
        return f"NDCG({self.normalise} of log-probs)"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score rankings.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Raises:
            EvaluationError: If an item's facts do not fit its candidates, or log-probabilities are missing or not
                finite.
            ValueError: If items and predictions differ in number or in their ids.
        """
        check_answers(items, predictions)
        gains: list[float | None] = []
        ranks: list[int] = []
        irrelevant = 0
        for item, prediction in zip(items, predictions, strict=True):
            relevance, truth = item.facts.get("relevance"), item.facts.get("gt_index")
            gains.append(None)
            if relevance is None and truth is None:
                continue
            number = len(prediction.log_probs) if relevance is None else len(relevance)
            scores = candidate_scores(prediction, number=number, normalise=self.normalise)
            if relevance is not None and any(relevance):
                gains[-1] = ndcg(scores, relevance)
            irrelevant += relevance is not None and not any(relevance)
            if truth is not None:
                ranks.append(1 + place_of_best(scores, of=_checked(truth, item, number)))
        scored = sum(gain is not None for gain in gains)
        return Score(
            variant=self.variant,
            value=percent(gains),
            per_item=percents(gains),
            counts={"asked": len(items), "scored": scored, "nothing_relevant": irrelevant, "ranked": len(ranks)},
            parts=_ranked(ranks),
        )


def _checked(truth: int, item: TaskItem, number: int) -> int:
    if type(truth) is not int or not 0 <= truth < number:
        raise EvaluationError(
            f"query {item.id!r} has gt_index {truth!r}, wanted a whole number from 0 to {number - 1}, the place of a "
            "candidate"
        )
    return truth


def _ranked(ranks: Sequence[int]) -> dict[str, float]:
    if not ranks:
        return {}
    parts = {"mrr": 100 * math.fsum(1 / rank for rank in ranks) / len(ranks)}
    for limit in RECALLS:
        parts[f"r@{limit}"] = 100 * sum(rank <= limit for rank in ranks) / len(ranks)
    return {**parts, "mean_rank": sum(ranks) / len(ranks)}
