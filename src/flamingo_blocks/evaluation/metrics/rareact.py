"""Mean weighted average precision, the score of rare actions."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.item import TaskItem
from flamingo_blocks.evaluation.metrics.candidate_scores import candidate_scores
from flamingo_blocks.evaluation.prediction import Prediction
from flamingo_blocks.evaluation.score import Score, check_answers

POSITIVE, NEGATIVE = 1, 0
ANNOTATIONS = range(5)


@dataclass(frozen=True)
class RareActClip:
    """What is known of a clip.

    Args:
        class_id: The action that it was annotated for, as a place among the candidates.
        verb: Verb of that action.
        noun: Noun of that action.
        annotation: 1: shows the action; 2, 3, 4: only its verb, only its noun, both but not together; 0: neither.
        video: The video that it was cut from.

    Example:
        >>> shown = RareActClip(class_id=0, verb="cut", noun="shoe", annotation=1, video="a")
        >>> only_its_verb = RareActClip(class_id=0, verb="cut", noun="shoe", annotation=2, video="b")
        >>> rareact_mwap([[0.7], [0.2]], [shown, only_its_verb])
        {0: 1.0}
    """

    class_id: int
    verb: str
    noun: str
    annotation: int
    video: str


def weighted_average_precision(scores: Sequence[float], labels: Sequence[int], weights: Sequence[float]) -> float:
    """Average precision of a ranking in which items weigh differently; those of equal score count as one step.

    Args:
        scores: Score of each item.
        labels: 1 for a positive, 0 for a negative.
        weights: Weight of each, above 0.

    Returns:
        From 0 to 1.

    Raises:
        ValueError: If they differ in number, or there is no positive.

    Example:
        >>> weights = [0.5, 0.5, 1, 0.5, 0.5, 1]
        >>> round(weighted_average_precision([0.9, 0.3, 0.6, 0.7, 0.2, 0.8], [1, 1, 1, 0, 0, 0], weights), 6)
        0.642857
    """
    if not len(scores) == len(labels) == len(weights):
        raise ValueError(
            f"scores has {len(scores)} items, labels {len(labels)}, weights {len(weights)}; give one of each for all"
        )
    total = math.fsum(weight for label, weight in zip(labels, weights, strict=True) if label)
    if not total:
        raise ValueError("labels has no positive; give one at least, or leave the class out")
    rows = sorted(zip(scores, labels, weights, strict=True), key=lambda row: -row[0])
    seen = found = 0.0
    steps = []
    for _, group in groupby(rows, key=lambda row: row[0]):
        tied = list(group)
        gained = math.fsum(weight for _, label, weight in tied if label)
        seen += math.fsum(weight for _, _, weight in tied)
        found += gained
        steps.append(gained * found / seen)
    return math.fsum(steps) / total


def rareact_mwap(scores: Sequence[Sequence[float]], clips: Sequence[RareActClip]) -> dict[int, float]:
    """Weighted average precision of each class that a clip shows.

    Positives of a class are the clips that show it. Hard negatives are its other annotated clips that show something
    of it, and clips that show an action of the same verb or noun. Negatives are its clips that show nothing of it, and
    clips that show other actions. In each of the three sets every video weighs 1, spread over its clips.

    Args:
        scores: For each clip, the score of each class.
        clips: What is known of each clip.

    Returns:
        By class, from 0 to 1; the score of the set is their mean.

    Raises:
        ValueError: If the two differ in number, or a class or annotation is out of range.

    Example:
        >>> clips = [RareActClip(0, "cut", "shoe", 1, "a"), RareActClip(0, "cut", "shoe", 3, "b")]
        >>> rareact_mwap([[0.2], [0.7]], clips)
        {0: 0.5}

    Source:
        Miech et al. (arXiv 2008.01018), as the authors' code computes mWAP.
    """
    found = {}
    for name, places, sets in rankings(scores, clips):
        videos = Counter(zip(sets, (clips[place].video for place in places), strict=True))
        weights = [1 / videos[kind, clips[place].video] for kind, place in zip(sets, places, strict=True)]
        labels = [int(kind == "positive") for kind in sets]
        found[name] = weighted_average_precision([scores[place][name] for place in places], labels, weights)
    return found


def rankings(
    scores: Sequence[Sequence[float]], clips: Sequence[RareActClip]
) -> Iterator[tuple[int, list[int], list[str]]]:
    """The classes that a clip shows, each with the places of the clips that it ranks, and the set that each is in.

    Args:
        scores: For each clip, the score of each class.
        clips: What is known of each clip.

    Yields:
        Class, places, and sets: `"positive"`, `"hard"` or `"negative"`.

    Raises:
        ValueError: If the two differ in number, or a class or annotation is out of range.
    """
    if len(scores) != len(clips):
        raise ValueError(f"scores has {len(scores)} clips, clips {len(clips)}; give the scores of each")
    for place, (row, clip) in enumerate(zip(scores, clips, strict=True)):
        if not 0 <= clip.class_id < len(row) or clip.annotation not in ANNOTATIONS:
            raise ValueError(
                f"clips[{place}] has class {clip.class_id} and annotation {clip.annotation!r}, wanted a class from 0 "
                f"to {len(row) - 1} and an annotation from 0 to 4"
            )
    shown = [place for place, clip in enumerate(clips) if clip.annotation == POSITIVE]
    own: dict[int, list[int]] = defaultdict(list)
    for place, clip in enumerate(clips):
        if clip.annotation != POSITIVE:
            own[clip.class_id].append(place)
    for name in sorted({clips[place].class_id for place in shown}):
        places = [*shown, *own[name]]
        yield name, places, _sets(name, clips, places)


def _sets(name: int, clips: Sequence[RareActClip], places: Sequence[int]) -> list[str]:
    action = next(clips[place] for place in places if clips[place].class_id == name)
    sets = []
    for place in places:
        clip = clips[place]
        if clip.class_id == name:
            hard = clip.annotation != NEGATIVE
            sets.append("positive" if clip.annotation == POSITIVE else "hard" if hard else "negative")
        else:
            sets.append("hard" if clip.verb == action.verb or clip.noun == action.noun else "negative")
    return sets


@dataclass(frozen=True, kw_only=True)
class RareAct:
    """Mean over actions of the weighted average precision of ranking clips by the likelihood of the action's caption.

    The candidates of every prediction are the captions of all actions; `facts` has `class_id`, its place among them,
    `verb`, `noun`, `annotation` and `video`.

    Example:
        >>> def clip(name, annotation, log_prob):
        ...     facts = dict(class_id=0, verb="cut", noun="shoe", annotation=annotation, video=name)
        ...     item = TaskItem(id=name, media=(), facts=facts)
        ...     return item, Prediction(task="rareact", id=name, shots=0, seed=0, log_probs=(log_prob,))
        >>> items, said = zip(clip("a", 1, -3.0), clip("b", 3, -5.0), clip("c", 0, -4.0))
        >>> RareAct().score(items, said).value
        100.0
    """

    @property
    def variant(self) -> str:
        """The rule."""
        return "mWAP(sum of log-probs)"

    def score(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Score:
        """Score the rankings of clips.

        Args:
            items: The clips.
            predictions: The log-probabilities of every caption for each.

        Raises:
            EvaluationError: If an item lacks a fact, or log-probabilities are missing or not finite.
            ValueError: If items and predictions differ in number or in their ids.
        """
        scores, clips = _read(items, predictions)
        precisions = rareact_mwap(scores, clips)
        return Score(
            variant=self.variant,
            value=100 * math.fsum(precisions.values()) / len(precisions) if precisions else None,
            counts={"asked": len(items), "scored": len(items) if precisions else 0, "classes": len(precisions)},
        )

    def prepare(self, items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> Callable[[Tensor], float | None]:
        """Read everything once, to give the value for many sets in which clips come several times or not at all.

        Args:
            items: The clips.
            predictions: The log-probabilities of every caption for each.

        Returns:
            Gives the value, or None where a set shows no action, from how often each clip comes.

        Raises:
            ValueError: As `score`.
        """
        return _Rankings(*_read(items, predictions)).value


class _Rankings:
    """The rankings of all classes in one row, each from its best clip down, so that they are weighed at once."""

    def __init__(self, scores: Sequence[Sequence[float]], clips: Sequence[RareActClip]) -> None:
        steps: dict[tuple[int, float], int] = {}
        shares: dict[tuple[int, str, str], int] = {}
        rows: list[tuple[int, int, int, bool]] = []
        classes: list[int] = []  # of each step
        for number, (name, places, sets) in enumerate(rankings(scores, clips)):
            order = sorted(zip(places, sets, strict=True), key=lambda row: -scores[row[0]][name])
            for place, kind in order:
                step = steps.setdefault((name, scores[place][name]), len(steps))
                share = shares.setdefault((name, kind, clips[place].video), len(shares))
                rows.append((place, step, share, kind == "positive"))
                if step == len(classes):
                    classes.append(number)
        columns = torch.tensor(rows, dtype=torch.long).view(-1, 4).unbind(1)
        self.places, self.steps, self.shares, positive = columns
        self.positive = positive.to(torch.float64)
        self.classes = torch.tensor(classes, dtype=torch.long)
        self.starts = (
            torch.cat([torch.ones(1, dtype=torch.bool), self.classes[1:] != self.classes[:-1]]) if rows else None
        )

    def value(self, times: Float[Tensor, " items"]) -> float | None:
        times = times[self.places]
        weights = times / torch.bincount(self.shares, times)[self.shares].clamp(min=1)
        seen = torch.bincount(self.steps, weights)
        gained = torch.bincount(self.steps, weights * self.positive)
        found, reached = self._running(gained), self._running(seen)
        precision = torch.where(reached > 0, gained * found / reached.clamp(min=1e-300), 0.0)
        totals = torch.bincount(self.classes, gained)
        kept = totals > 0
        average = torch.bincount(self.classes, precision)[kept] / totals[kept]
        return 100 * float(average.mean()) if bool(kept.any()) else None

    def _running(self, values: Float[Tensor, " steps"]) -> Float[Tensor, " steps"]:
        """Sums from the first step of the own class on."""
        sums = values.cumsum(0)
        before = (sums - values)[self.starts]
        return sums - before[self.classes]


def _read(items: Sequence[TaskItem], predictions: Sequence[Prediction]) -> tuple[list[list[float]], list[RareActClip]]:
    check_answers(items, predictions)
    number = len(predictions[0].log_probs) if predictions else 0
    return [candidate_scores(prediction, number=number) for prediction in predictions], [_clip(item) for item in items]


def _clip(item: TaskItem) -> RareActClip:
    names = [field.name for field in fields(RareActClip)]
    if missing := [name for name in names if name not in item.facts]:
        raise EvaluationError(
            f"query {item.id!r} lacks the fact {missing[0]!r}; wanted {', '.join(names)} of each clip"
        )
    return RareActClip(**{name: item.facts[name] for name in names})
