"""Stems of answers, as the annotations of OK-VQA have them."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.normalise_vqa import VqaProfile, normalise_vqa
from flamingo_blocks.evaluation.metrics.score_answers import Rule, score_answers
from flamingo_blocks.evaluation.metrics.vqa_accuracy import vqa_accuracy
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score

Key = TypeVar("Key", bound=Hashable)
VOWELS = frozenset("aeiou")
HISSING = ("sses", "xes", "zzes", "ches", "shes")
SHORTEST = 3  # letters that a stem has at least


@dataclass(frozen=True)
class StemMap:
    """What became of answers and of their words when the annotations were stemmed.

    The right answers of OK-VQA are stems. A prediction that is none loses about five points, so predictions go through
    the same stemming, which is learnt from the annotations: each has the answer before and after.

    Args:
        phrases: Stem of each answer.
        words: Stem of each word.

    Example:
        >>> stems = StemMap.learn([("riding bikes", "ride bike"), ("skateboarding", "skateboard")])
        >>> stems.apply("Skateboarding"), stems.apply("two bikes"), stems.apply("surfing waves")
        ('skateboard', '2 bike', 'surf wave')
    """

    phrases: Mapping[str, str] = field(repr=False)
    words: Mapping[str, str] = field(repr=False)

    @classmethod
    def learn(cls, pairs: Iterable[tuple[str, str]]) -> "StemMap":
        """Read the stems off annotations.

        Args:
            pairs: `raw_answer` and `answer` of each annotation, of the training and the validation split.

        Returns:
            For each answer the stem that it has most often, and for each word the one it has in answers that keep
            their number of words; of equally frequent ones the first of the alphabet.
        """
        phrases: dict[str, Counter[str]] = defaultdict(Counter)
        words: dict[str, Counter[str]] = defaultdict(Counter)
        for raw, stem in pairs:
            before, after = normalise_vqa(raw), normalise_vqa(stem)
            if not before:
                continue
            phrases[before][after] += 1
            if len(before.split()) == len(after.split()):
                for word, its_stem in zip(before.split(), after.split(), strict=True):
                    words[word][its_stem] += 1
        return cls(_most_frequent(phrases), _most_frequent(words))

    def apply(self, text: str) -> str:
        """Stem an answer.

        Args:
            text: An answer.

        Returns:
            The stem of the whole answer, if it was seen; otherwise of each word, by rules about `-s` and `-ing` for
            words that were not seen either. It is in the normal form of VQA.
        """
        normal = normalise_vqa(text)
        if normal in self.phrases:
            return self.phrases[normal]
        return normalise_vqa(" ".join(self.words.get(word) or self._by_rule(word) for word in normal.split()))

    @cached_property
    def _stems(self) -> frozenset[str]:
        return frozenset(self.words.values())

    def _by_rule(self, word: str) -> str:
        if word.endswith("ing") and _has_vowel(word[:-3]) and len(word) >= SHORTEST + 3:
            stem = word[:-3]
            guesses = [stem, f"{stem}e", stem[:-1]]
            return next((guess for guess in guesses if guess in self._stems), _verb(stem))
        if word.endswith("ies") and len(word) > SHORTEST + 1:
            return f"{word[:-3]}y"
        if word.endswith(HISSING) or (word.endswith("es") and word[:-2] in self._stems):
            return word[:-2]
        if word.endswith("s") and not word.endswith(("ss", "us", "is", "'s")) and len(word) > SHORTEST:
            return word[:-1]
        return word


def _has_vowel(word: str) -> bool:
    return any(letter in VOWELS or letter == "y" for letter in word)


def _verb(stem: str) -> str:
    """Undo what `-ing` did to a verb that was never seen: runn, rid, surf."""
    before, last = stem[-2], stem[-1]
    if last == before and last not in "lsz" and last not in VOWELS:
        return stem[:-1]
    short = len(stem) >= SHORTEST and last not in VOWELS and before in VOWELS and stem[-3] not in VOWELS
    if short and last not in "wxy" and sum(letter in VOWELS for letter in stem) == 1:
        return f"{stem}e"
    return f"{stem}e" if last in "cv" else stem


def _most_frequent(counted: Mapping[str, Counter[str]]) -> dict[str, str]:
    return {name: min(counts, key=lambda stem: (-counts[stem], stem)) for name, counts in counted.items()}


@dataclass(frozen=True, kw_only=True)
class OkVqaAccuracy:
    """VQA accuracy on OK-VQA, from 0 to 100: against stems, with predictions stemmed as the annotations were.

    What predictions score that are not stemmed is a part. Items without answers do not count.

    Args:
        stem_map: The stems, learnt from annotations; None to leave predictions as they are.
        profile: As in `vqa_accuracy`.

    Example:
        >>> metric = OkVqaAccuracy(stem_map=StemMap.learn([("surfing", "surf")]))
        >>> item = TaskItem(id="1", media=(), answers=("surf",) * 10)
        >>> score = metric.score([item], [Prediction(task="okvqa", id="1", shots=0, seed=0, answer="Surfing")])
        >>> score.variant, score.value, score.parts
        ('VQA(always, stem=annotation)', 100.0, {'VQA(always, stem=none)': 0.0})
    """

    stem_map: StemMap | None
    profile: VqaProfile = "always"

    @property
    def variant(self) -> str:
        """The rule."""
        return f"VQA({self.profile}, stem={'none' if self.stem_map is None else 'annotation'})"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score answers.

        Args:
            items: The queries, with stems as `answers`.
            predictions: What was answered to each.

        Raises:
            ValueError: If they differ in number or in their ids.
        """

        def plain(prediction: str, answers: Sequence[str]) -> float:
            return vqa_accuracy(prediction, answers, profile=self.profile)

        def stemmed(prediction: str, answers: Sequence[str]) -> float:
            return plain(prediction if self.stem_map is None else self.stem_map.apply(prediction), answers)

        rules: dict[str, Rule] = {self.variant: stemmed, f"VQA({self.profile}, stem=none)": plain}
        return score_answers(items, predictions, rules)
