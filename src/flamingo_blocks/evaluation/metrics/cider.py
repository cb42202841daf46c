"""CIDEr-D, the score of captions."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.document_frequencies import LONGEST, DocumentFrequencies, Ngram, ngrams
from flamingo_blocks.evaluation.metrics.ptb_tokenize import ptb_tokenize
from flamingo_blocks.evaluation.metrics.read_answers import percent, percents, read_answers
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score

Tokenize = Callable[[str], Sequence[str]]


@dataclass(frozen=True)
class CiderScores:
    """What `cider_d` gives; papers print a hundred times as much.

    Args:
        corpus: Mean over the images.
        per_image: Score of each, from 0 to 10.

    Example:
        >>> scores = cider_d(["a black cat", "a dog"], [["a black cat", "one cat"], ["the white dog runs"]])
        >>> sum(scores.per_image) / 2 == scores.corpus
        True
    """

    corpus: float
    per_image: tuple[float, ...]


def cider_d(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    tokenize: Tokenize = ptb_tokenize,
    document_frequencies: DocumentFrequencies | None = None,
    sigma: float = 6.0,
) -> CiderScores:
    """Score captions by the runs of words that they share with the references, rare runs weighing more.

    Args:
        hypotheses: One caption for each image.
        references: The captions that people wrote of each.
        tokenize: Gives the words of a caption; `str.split` for captions that are split already.
        document_frequencies: How common runs of words are; None for those of `references`. A single image scores 0
            under its own, for then every run is common to all.
        sigma: Width, in words, of the penalty for captions of another length.

    Returns:
        The scores.

    Raises:
        ValueError: If there is no image, the two differ in number, or an image has no reference.

    Example:
        >>> scores = cider_d(["a black cat", "a dog"], [["a black cat", "one cat"], ["the white dog runs"]])
        >>> [round(score, 3) for score in scores.per_image]
        [4.253, 0.836]

    Source:
        Vedantam et al. (arXiv 1411.5726), section 7, as coco-caption computes it: no division by the number of words,
        and the penalty counts pairs of words, so that empty captions are as long as those of one word.
    """
    if not hypotheses or len(hypotheses) != len(references):
        raise ValueError(
            f"hypotheses has {len(hypotheses)} captions, references {len(references)} images; give one caption for "
            "each image, and one image at least"
        )
    for place, captions in enumerate(references):
        if not captions:
            raise ValueError(f"references[{place}] is empty; give each image one reference at least, or leave it out")
    runs = [[Counter(ngrams(tokenize(caption))) for caption in captions] for captions in references]
    frequencies = document_frequencies or DocumentFrequencies.of_ngrams(runs)
    unseen = math.log(frequencies.num_images)
    weights = {ngram: unseen - math.log(max(1, count)) for ngram, count in frequencies.counts.items()}
    scores = tuple(
        _score(
            _vector(Counter(ngrams(tokenize(caption))), weights, unseen),
            [_vector(counts, weights, unseen) for counts in captions],
            sigma,
        )
        for caption, captions in zip(hypotheses, runs, strict=True)
    )
    return CiderScores(math.fsum(scores) / len(scores), scores)


class _Vector(NamedTuple):
    weights: dict[Ngram, float]
    norms: list[float]
    length: int


def _vector(counts: Mapping[Ngram, int], weights: Mapping[Ngram, float], unseen: float) -> _Vector:
    vector = {}
    squares, length = [0.0] * LONGEST, 0
    for ngram, count in counts.items():
        vector[ngram] = weight = count * weights.get(ngram, unseen)
        squares[len(ngram) - 1] += weight * weight
        if len(ngram) == 2:
            length += count  # in pairs of words
    return _Vector(vector, [math.sqrt(square) for square in squares], length)


def _score(caption: _Vector, references: Sequence[_Vector], sigma: float) -> float:
    total = 0.0
    for reference in references:
        products = [0.0] * LONGEST
        for ngram in caption.weights.keys() & reference.weights.keys():
            weight = reference.weights[ngram]
            products[len(ngram) - 1] += min(caption.weights[ngram], weight) * weight
        cosines = (
            product / (one * other) if one and other else product
            for product, one, other in zip(products, caption.norms, reference.norms, strict=True)
        )
        difference = caption.length - reference.length
        total += math.fsum(cosines) * math.exp(-(difference**2) / (2 * sigma**2))
    return 10 * total / LONGEST / len(references)


@dataclass(frozen=True, kw_only=True)
class Cider:
    """CIDEr-D over all items, as papers print it: a caption that equals its reference scores 1000.

    Items without references do not count.

    Args:
        tokenize: Gives the words of a caption. Languages without spaces want one of their own.
        tokenizer_name: What the variant calls it.
        document_frequencies: How common runs of words are; None for those of the items that are scored.

    Example:
        >>> items = [TaskItem(id=name, media=(), answers=(f"a {name} on the grass",)) for name in ("dog", "cat")]
        >>> said = [Prediction(task="coco", id=name, shots=0, seed=0, answer=f"A {name}.") for name in ("dog", "cat")]
        >>> score = Cider().score(items, said)
        >>> score.variant, round(score.value, 2)
        ('CIDEr-D(ptb-regex, idf=evaluated, N=2)', 376.63)
    """

    tokenize: Tokenize = ptb_tokenize
    tokenizer_name: str = "ptb-regex"
    document_frequencies: DocumentFrequencies | None = None

    @property
    def variant(self) -> str:
        """The rule, but for the number of images."""
        return self._variant("")

    def _variant(self, number: str) -> str:
        idf = "evaluated" if self.document_frequencies is None else self.document_frequencies.name
        return f"CIDEr-D({self.tokenizer_name}, idf={idf}{number})"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score captions; the weights of runs of words come from `items`, unless they are given.

        Args:
            items: The queries, their references as `answers`.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids, or the given document frequencies were counted in
                words of another tokenizer.
        """
        given = self.document_frequencies
        if given is not None and given.tokenizer != self.tokenizer_name:
            raise ValueError(
                f"document_frequencies were counted in words of {given.tokenizer!r}, captions are split by "
                f"{self.tokenizer_name!r}; count them again with DocumentFrequencies.learn(..., tokenize=...)"
            )
        answers, counts = read_answers(items, predictions)
        places = [place for place, item in enumerate(items) if item.answers]
        per_item: list[float | None] = [None] * len(items)
        if places:
            scores = cider_d(
                [answers[place] for place in places],
                [items[place].answers for place in places],
                tokenize=self.tokenize,
                document_frequencies=given,
            )
            for place, score in zip(places, scores.per_image, strict=True):
                per_item[place] = score
        number = len(places) if given is None else given.num_images
        return Score(
            variant=self._variant(f", N={number}"),
            value=percent(per_item),
            per_item=percents(per_item),
            counts={**counts, "scored": len(places), "without_answers": len(items) - len(places)},
        )
