"""WUPS, which gives answers credit for words of near meaning, and the score of NExT-QA that stands on it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.read_answers import percent, percent_by, percents, read_answers
from flamingo_blocks.evaluation.metrics.stop_words import STOP_WORDS
from flamingo_blocks.evaluation.metrics.wordnet import WordNet
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score

Similarity = Callable[[str, str], float]
Lemmatise = Callable[[str], Sequence[str]]
FAR = 0.1  # what is left of a similarity below the threshold
EXACT_TYPES = frozenset(["DB", "DC"])  # yes or no, and counts
TYPES = frozenset(["CW", "CH", "TN", "TP", "TC", "DB", "DC", "DL", "DO"])


def wups(
    prediction: str,
    answers: Sequence[str],
    *,
    similarity: Similarity,
    lemmatise: Lemmatise,
    threshold: float = 0.0,
    stop_words: frozenset[str] = STOP_WORDS,
) -> float:
    """How near in meaning an answer is to the nearest of those that count as right.

    Args:
        prediction: The predicted answer.
        answers: What counts as right.
        similarity: Gives how near two words are, from 0 to 1; equal words are never asked about.
        lemmatise: Gives the words of a text in their base forms.
        threshold: A tenth is left of similarities below it.
        stop_words: Words that are left out.

    Returns:
        From 0 to 1: for each word of one answer the similarity of the best word of the other, multiplied, words
        without any such word passed over; the smaller of the two directions.

    Raises:
        ValueError: If there is no answer.

    Example:
        >>> def similarity(one, other):
        ...     return 0.8 if {one, other} == {"dog", "cat"} else 0.0
        >>> wups("the dog", ["a cat"], similarity=similarity, lemmatise=str.split)
        0.8
        >>> wups("dog zzz", ["dog"], similarity=similarity, lemmatise=str.split)  # a word that is unknown costs nothing
        1.0

    Source:
        Malinowski and Fritz (arXiv 1410.0210), section 4, as the code of NExT-OE (arXiv 2105.08276) computes it.
    """
    if not answers:
        raise ValueError("answers is empty; give what counts as right, one answer at least")
    own = _words(prediction, lemmatise, stop_words)
    return max(_symmetric(own, _words(answer, lemmatise, stop_words), similarity, threshold) for answer in answers)


def _words(text: str, lemmatise: Lemmatise, stop_words: frozenset[str]) -> list[str]:
    return [word for word in lemmatise(text) if word not in stop_words]


def _symmetric(own: Sequence[str], other: Sequence[str], similarity: Similarity, threshold: float) -> float:
    def near(one: str, two: str) -> float:
        if one == two:
            return 1.0
        found = similarity(one, two)
        return found if found >= threshold else FAR * found

    return min(_product(own, other, near), _product(other, own, near))


def _product(words: Sequence[str], among: Sequence[str], near: Similarity) -> float:
    product, found = 1.0, False
    for word in words:
        best = max((near(word, other) for other in among), default=0.0)
        if best > 0:
            product, found = product * best, True
    return product if found else 0.0


@dataclass(frozen=True, kw_only=True)
class NextQa:
    """Score of open-ended NExT-QA, from 0 to 100: WUPS, and equality for questions of types DB and DC.

    An item's type is `facts["question_type"]`; it may have two answers, of which the nearer counts. TP is counted as
    TN. Each type is a part, and so is the value at the other threshold that papers know, 0.9. Items without answers do
    not count.

    Args:
        threshold: As in `wups`; papers print 0.
        wordnet: Folder of WordNet's official files, read by `ready` or when the first answer is scored; None to look
            for it as `WordNet` does.
        similarity: Used in place of WordNet's.
        lemmatise: Used in place of WordNet's.
        name: What the variant calls similarity and lemmas.
        stop_words: As in `wups`.

    Raises:
        ValueError: If only one of `similarity` and `lemmatise` is given.

    Example:
        >>> item = TaskItem(id="1", media=(), answers=("play", "dance"), facts={"question_type": "CW"})
        >>> said = Prediction(task="nextqa", id="1", shots=0, seed=0, answer="dance")
        >>> metric = NextQa(similarity=lambda one, other: 0.0, lemmatise=str.split, name="equal")
        >>> metric.score([item], [said]).parts
        {'WUPS@0.9(equal)': 100.0, 'CW': 100.0}
    """

    threshold: float = 0.0
    wordnet: Path | None = None
    similarity: Similarity | None = field(default=None, repr=False)
    lemmatise: Lemmatise | None = field(default=None, repr=False)
    name: str = "wordnet"
    stop_words: frozenset[str] = field(default=STOP_WORDS, repr=False)

    def __post_init__(self) -> None:
        if (self.similarity is None) != (self.lemmatise is None):
            raise ValueError("of similarity and lemmatise one is None; give both, or neither to use WordNet's")

    @property
    def variant(self) -> str:
        """The rule."""
        return self._variant(self.threshold)

    def _variant(self, threshold: float) -> str:
        return f"WUPS@{threshold}({self.name})"

    @cached_property
    def _functions(self) -> tuple[Similarity, Lemmatise]:
        if self.similarity is not None and self.lemmatise is not None:
            return self.similarity, self.lemmatise
        loaded = WordNet(self.wordnet)
        return loaded.similarity, loaded.lemmatise

    def ready(self) -> None:
        """Read WordNet, where it is wanted.

        Raises:
            EvaluationError: If it is missing.
        """
        _ = self._functions

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score answers.

        Args:
            items: The queries.
            predictions: What was answered to each.

        Raises:
            EvaluationError: If an item is of none of the types, or WordNet is wanted and missing.
            ValueError: If items and predictions differ in number or in their ids.
        """
        said, counts = read_answers(items, predictions)
        types = [_type(item) for item in items]
        thresholds = dict.fromkeys([self.threshold, 0.0, 0.9])
        shares: dict[float, list[float | None]] = {}
        for threshold in thresholds:
            rows = zip(said, items, types, strict=True)
            shares[threshold] = [self._share(answer, item, kind, threshold) for answer, item, kind in rows]
        own = shares.pop(self.threshold)
        beside = {self._variant(threshold): percent(values) for threshold, values in shares.items()}
        scored = sum(share is not None for share in own)
        return Score(
            variant=self.variant,
            value=percent(own),
            per_item=percents(own),
            counts={**counts, "scored": scored, "without_answers": len(items) - scored},
            parts={**_there(beside.items()), **percent_by(types, own)},
        )

    def _share(self, answer: str, item: TaskItem, kind: str, threshold: float) -> float | None:
        if not item.answers:
            return None
        similarity, lemmatise = self._functions
        if kind in EXACT_TYPES:
            own = _words(answer, lemmatise, self.stop_words)
            return float(any(own == _words(right, lemmatise, self.stop_words) for right in item.answers))
        return wups(
            answer,
            item.answers,
            similarity=similarity,
            lemmatise=lemmatise,
            threshold=threshold,
            stop_words=self.stop_words,
        )


def _there(values: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    return {name: value for name, value in values if value is not None}


def _type(item: TaskItem) -> str:
    kind = item.facts.get("question_type")
    if kind not in TYPES:
        raise EvaluationError(
            f"query {item.id!r} has the question_type {kind!r}, wanted one of {' '.join(sorted(TYPES))}"
        )
    return "TN" if kind == "TP" else str(kind)
