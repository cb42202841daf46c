"""What a metric gives, and what it is called with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.prediction import Prediction


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score, with the name of the exact rule that it was found by.

    Args:
        variant: The rule, such as `"CIDEr-D(ptb-regex, idf=evaluated, N=5000)"`: two scores may be compared if their
            variants are equal.
        value: In the unit that papers print: 0 to 100, CIDEr without an upper limit; None where there was nothing to
            score, as in a split without answers.
        per_item: What each item contributes, in the order of the items, where `value` is the mean of these; empty where
            it is none, as of an area under a curve. None for an item that does not count.
        counts: How many items were scored, and how many were not, by reason.
        parts: Scores of parts of the items, such as types of question.

    Example:
        >>> score = Score(variant="top-1", value=50.0, per_item=(100.0, 0.0, None), counts={"scored": 2, "empty": 1})
        >>> counted = [value for value in score.per_item if value is not None]
        >>> sum(counted) / len(counted) == score.value
        True
    """

    variant: str
    value: float | None
    per_item: tuple[float | None, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Metric(Protocol):
    """Scores predictions against the items that they answer.

    A metric may have three methods more, each called if it is there:

    - `check_queries(items)` gets all queries when a `Task` is made of them, and raises `EvaluationError` if they cannot
      be scored whatever is answered, as by labels that are all the same.
    - `ready()` gets nothing, and raises `EvaluationError` if something is missing that the metric reads besides, such
      as WordNet: it is called before a model is asked anything.
    - `prepare(items, predictions)` gets what `score` gets, and gives a function from the number of times that each item
      comes, a float64 tensor, to the value, or None where there is none. The bootstrap calls that a thousand times,
      and without it `score` as often.

    Example:
        >>> class Brevity:
        ...     variant = "one word"
        ...
        ...     def score(self, items, predictions):
        ...         check_answers(items, predictions)
        ...         short = tuple(100.0 * (len(one.answer.split()) == 1) for one in predictions)
        ...         return Score(variant=self.variant, value=sum(short) / len(short), per_item=short)
        >>> isinstance(Brevity(), Metric)
        True
        >>> items = [TaskItem(id=name, media=()) for name in "ab"]
        >>> answers = {"a": "net", "b": "a net"}
        >>> said = [Prediction(task="t", id=name, shots=0, seed=0, answer=answer) for name, answer in answers.items()]
        >>> Brevity().score(items, said).value
        50.0
    """

    @property
    def variant(self) -> str:
        """The rule, as far as it is known without items."""

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score predictions, one for each item, in order. An item may come twice, as in a resampled set.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids, or items lack what the metric reads.
        """


def check_answers(items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> None:
    """Refuse predictions that are not those of the items.

    Args:
        items: The queries.
        predictions: What was answered to each.

    Raises:
        ValueError: If they differ in number or in their ids.
    """
    if len(items) != len(predictions):
        raise ValueError(f"items has {len(items)} queries, predictions {len(predictions)}; give one for each, in order")
    for place, (item, prediction) in enumerate(zip(items, predictions, strict=True)):
        if item.id != prediction.id:
            raise ValueError(
                f"prediction {place} is for {prediction.id!r}, the item there is {item.id!r}; bring them in one order"
            )
