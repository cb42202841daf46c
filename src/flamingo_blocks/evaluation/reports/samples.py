"""A few predictions to look at."""

import hashlib
from collections.abc import Iterable, Sequence

from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.reports.summarise import OWN

MOST = 200  # characters of a text that are shown


def pick_samples(predictions: Iterable[Prediction], task: str, *, number: int) -> list[Prediction]:
    """A few of the model's own predictions with the most shots, drawn by the hash of their ids.

    Args:
        predictions: All that was answered.
        task: Name of the task.
        number: Most predictions.

    Example:
        >>> asked = [Prediction(task="t", id=str(each), shots=4, seed=0) for each in range(9)]
        >>> [each.id for each in pick_samples(asked, "t", number=2)]
        ['8', '4']
    """
    own = [each for each in predictions if (each.task, each.control) == (task, OWN)]
    most = max((each.shots for each in own), default=0)
    least = min((each.seed for each in own if each.shots == most), default=0)
    own = [each for each in own if (each.shots, each.seed) == (most, least)]
    return sorted(own, key=lambda each: hashlib.sha256(each.id.encode("utf-8", "surrogatepass")).digest())[:number]


def sample_row(prediction: Prediction, right: Sequence[str]) -> tuple[str, ...]:
    """A prediction as texts: its id, the end of its prompt, what was answered, what is right, and what ended it.

    Args:
        prediction: What was answered.
        right: What counts as right.
    """
    answer = prediction.answer
    if prediction.raw is not None and prediction.raw.strip() != answer:
        answer += f"\n(wrote: {prediction.raw})"
    distinct = list(dict.fromkeys(right))
    return (
        cut(prediction.id), cut_begin(prediction.prompt), cut(answer), cut("; ".join(distinct)) or "not told",
        (prediction.stopped_by or "chosen").replace("_", " "),
    )  # fmt: skip


def cut(text: str) -> str:
    """The begin of a text."""
    return text if len(text) <= MOST else f"{text[:MOST]}…"


def cut_begin(text: str) -> str:
    """The end of a text: of a prompt, what is asked."""
    return text if len(text) <= MOST else f"…{text[-MOST:]}"
