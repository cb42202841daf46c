"""How likely a model found each candidate, checked before anything is ranked by it."""

import math
from collections.abc import Sequence
from typing import Literal

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction

Normalise = Literal["sum", "mean"]


def candidate_scores(prediction: Prediction, *, number: int, normalise: Normalise = "sum") -> list[float]:
    """Log-likelihood of each candidate of a query.

    Args:
        prediction: The prediction.
        number: Candidates that there are.
        normalise: `"sum"` over the tokens of a candidate, or their `"mean"`.

    Returns:
        The log-likelihoods, in the order of the candidates.

    Raises:
        EvaluationError: Naming the query, if their number is another, one of them is no finite number, or the mean
            is asked for and the numbers of tokens are missing.

    Example:
        >>> said = Prediction(task="memes", id="1", shots=0, seed=0, log_probs=(-1.0, -3.0), num_tokens=(1, 3))
        >>> candidate_scores(said, number=2, normalise="mean")
        [-1.0, -1.0]
    """
    found = prediction.log_probs
    if len(found) != number:
        raise EvaluationError(
            f"query {prediction.id!r} has log-probabilities of {len(found)} candidates, wanted {number}; "
            "score every candidate"
        )
    for place, value in enumerate(found):
        if not math.isfinite(value):
            raise EvaluationError(
                f"query {prediction.id!r} has a log-probability of {value} for candidate {place}, wanted a finite "
                "number; look for overflows in the model"
            )
    if normalise == "sum":
        return list(found)
    tokens = prediction.num_tokens
    if len(tokens) != number or min(tokens, default=1) < 1:
        raise EvaluationError(
            f"query {prediction.id!r} has numbers of tokens {tokens} for {number} candidates, wanted one from 1 up "
            'for each; save num_tokens, or take normalise="sum"'
        )
    return [value / count for value, count in zip(found, tokens, strict=True)]


def place_of_best(scores: Sequence[float], *, of: int) -> int:
    """Place of a candidate among all by their scores, 0 for the best; of equals the earlier stands first.

    Args:
        scores: Score of each candidate.
        of: The candidate that is asked about.

    Returns:
        Its place.

    Example:
        >>> place_of_best([0.5, 0.9, 0.5], of=2)
        2
    """
    own = scores[of]
    return sum(score > own or (score == own and place < of) for place, score in enumerate(scores))


def has_tie(scores: Sequence[float]) -> bool:
    """Whether the best score is that of several candidates, so that their order decided.

    Args:
        scores: Score of each candidate.

    Returns:
        Whether there is a tie at the top.
    """
    return len(scores) > 1 and sum(score == max(scores) for score in scores) > 1


def right_candidate(item: TaskItem, candidates: Sequence[str]) -> int | None:
    """Which candidate is the right one: `facts["class_index"]`, or else the place of the first answer.

    Args:
        item: The query.
        candidates: The candidates.

    Returns:
        Its place, or None for an item without answers.

    Raises:
        EvaluationError: If it is none of the candidates.
    """
    if "class_index" in item.facts:
        index = item.facts["class_index"]
        if type(index) is not int or not 0 <= index < len(candidates):
            raise EvaluationError(
                f"query {item.id!r} has class_index {index!r}, wanted a whole number from 0 to {len(candidates) - 1}"
            )
        return index
    if not item.answers:
        return None
    if not candidates:
        raise EvaluationError(
            f"query {item.id!r} has an answer and no candidates; give the metric those of the task, or the item its own"
        )
    if item.answers[0] not in candidates:
        raise EvaluationError(
            f"query {item.id!r} has the answer {item.answers[0]!r}, which is none of its {len(candidates)} candidates"
        )
    return list(candidates).index(item.answers[0])
