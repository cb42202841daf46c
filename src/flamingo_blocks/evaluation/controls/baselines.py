"""Answers without a model: what a score has to beat before it says anything."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction

BASELINES = ("baseline:support_majority", "baseline:shots_majority", "baseline:last_shot")


def most_frequent(answers: Sequence[str]) -> str:
    """The most frequent of some answers; of several the one that comes first, and "" of none.

    Example:
        >>> most_frequent(["red", "blue", "blue", "red"])
        'red'
    """
    counts = Counter(answers)
    return max(counts, key=lambda answer: counts[answer]) if counts else ""


def baseline_predictions(
    own: Sequence[Prediction],
    items: Mapping[str, TaskItem],
    *,
    answers: Mapping[str, Sequence[str]],
    support_answers: Sequence[str],
    candidates: Sequence[str] = (),
) -> dict[str, list[Prediction]]:
    """What would be answered by who copies: the commonest answer of the support or the shots, or that of the last shot.

    Args:
        own: The model's predictions, whose shots are used.
        items: Queries by id.
        answers: The answers of each prediction's shots by the id of its query, first to last.
        support_answers: Answers that the support shows.
        candidates: What may be answered, where a task is closed with one list for all.

    Returns:
        Predictions for each of `BASELINES`; those about shots are left out where there are none.

    Example:
        >>> items = {"7": TaskItem(id="7", media=(), answers=("red",))}
        >>> own = [Prediction(task="colours", id="7", shots=2, seed=0, shot_ids=("1", "2"), answer="blue")]
        >>> found = baseline_predictions(
        ...     own, items, answers={"7": ["red", "green"]}, support_answers=["green", "red", "green"]
        ... )
        >>> {name: [prediction.answer for prediction in said] for name, said in found.items()}
        {'baseline:support_majority': ['green'], 'baseline:shots_majority': ['red'], 'baseline:last_shot': ['green']}
    """
    common = most_frequent(support_answers)
    found: dict[str, list[Prediction]] = {}
    for prediction in own:
        shown = answers[prediction.id]
        given = {"baseline:support_majority": common} if support_answers else {}
        if shown:
            given |= {"baseline:shots_majority": most_frequent(shown), "baseline:last_shot": shown[-1]}
        allowed = items[prediction.id].candidates or tuple(candidates)
        for name, answer in given.items():
            found.setdefault(name, []).append(_answered(prediction, name, answer, allowed))
    return found


def _answered(prediction: Prediction, name: str, answer: str, allowed: Sequence[str]) -> Prediction:
    return replace(
        prediction, control=name, raw=None, answer=answer, stopped_by=None, prompt="",
        log_probs=tuple(0.0 if candidate == answer else -1.0 for candidate in allowed) if prediction.log_probs else (),
        num_tokens=(1,) * len(allowed) if prediction.log_probs else (),
    )  # fmt: skip


def copy_rates(predictions: Sequence[Prediction], answers: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """How often the answer is that of a shot: of any (`"copy_any"`), or of the last (`"copy_last"`).

    Args:
        predictions: What was answered.
        answers: The answers of each query's shots, first to last.

    Returns:
        Shares from 0 to 1; none where no query has shots.

    Example:
        >>> own = Prediction(task="t", id="q", shots=2, seed=0, answer="Red")
        >>> copy_rates([own], {"q": ["red", "blue"]})
        {'copy_any': 1.0, 'copy_last': 0.0}
    """
    with_shots = [(_plain(one.answer), [_plain(text) for text in answers[one.id]]) for one in predictions]
    with_shots = [(answer, shown) for answer, shown in with_shots if shown]
    if not with_shots:
        return {}
    return {
        "copy_any": sum(answer in shown for answer, shown in with_shots) / len(with_shots),
        "copy_last": sum(answer == shown[-1] for answer, shown in with_shots) / len(with_shots),
    }


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")
