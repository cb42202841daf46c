"""The metrics of the video tasks, dialogues and classes, headline first; and metrics by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flamingo_blocks.evaluation.metrics import (
    Cider,
    ClassAccuracy,
    ExactMatch,
    IvqaAccuracy,
    Ndcg,
    NextQa,
    RareAct,
    RocAuc,
    StarAccuracy,
    VqaAccuracy,
)
from flamingo_blocks.evaluation.score import Metric


def of_dialogues() -> tuple[Metric, ...]:
    """NDCG over the relevance of all options."""
    return (Ndcg(),)


def of_captions() -> tuple[Metric, ...]:
    """CIDEr-D over the captions of all clips."""
    return (Cider(),)


def of_single_answers() -> tuple[Metric, ...]:
    """Equality with the single answer."""
    return (ExactMatch(),)


def of_ivqa() -> tuple[Metric, ...]:
    """Two of five answers are enough."""
    return (IvqaAccuracy(),)


def of_next_qa() -> tuple[Metric, ...]:
    """Similarity of words, from 0.0 on. WordNet is looked for when an evaluation begins."""
    return (NextQa(),)


def of_star() -> tuple[Metric, ...]:
    """The mean over the types of question."""
    return (StarAccuracy(),)


def of_rareact() -> tuple[Metric, ...]:
    """Weighted average precision of classes."""
    return (RareAct(),)


def of_classes(candidates: tuple[str, ...], *, top: tuple[int, ...]) -> tuple[Metric, ...]:
    """The share of items whose class is among the likeliest, as a mean where there are several such shares.

    Args:
        candidates: Names of the classes, of the whole task.
        top: Among how many of the likeliest.
    """
    return (ClassAccuracy(candidates=candidates, top=top),)


def _roc_auc(candidates: tuple[str, ...]) -> Metric:
    if len(candidates) != 2:
        raise ValueError(f"wanted two 'candidates' for roc_auc, the positive one first; found {len(candidates)}")
    return RocAuc(candidates=(candidates[0], candidates[1]), positive=candidates[0])


NAMED: Mapping[str, Callable[[tuple[str, ...]], Metric]] = MappingProxyType(
    {
        "cider": lambda _: Cider(),
        "class_top1": lambda candidates: ClassAccuracy(candidates=candidates, top=(1,)),
        "class_top1_top5": lambda candidates: ClassAccuracy(candidates=candidates, top=(1, 5)),
        "exact_match": lambda _: ExactMatch(),
        "ivqa": lambda _: IvqaAccuracy(),
        "ndcg": lambda _: Ndcg(),
        "roc_auc": _roc_auc,
        "star": lambda _: StarAccuracy(),
        "vqa_always": lambda _: VqaAccuracy(profile="always"),
        "vqa_official": lambda _: VqaAccuracy(profile="official"),
        "vqa_textvqa": lambda _: VqaAccuracy(profile="textvqa"),
        "vqa_vizwiz": lambda _: VqaAccuracy(profile="vizwiz"),
        "wups": lambda _: NextQa(),
    }
)
