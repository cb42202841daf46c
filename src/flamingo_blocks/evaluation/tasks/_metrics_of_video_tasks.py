"""The metrics of the video tasks, dialogues and classes, headline first."""

import importlib
from collections.abc import Callable, Mapping
from types import MappingProxyType, ModuleType
from typing import cast

from flamingo_blocks.evaluation.score import Metric


def _metrics() -> ModuleType:
    return importlib.import_module("flamingo_blocks.evaluation.metrics")


def of_dialogues() -> tuple[Metric, ...]:
    """NDCG over the relevance of all options."""
    return (cast(Metric, _metrics().Ndcg()),)


def of_captions() -> tuple[Metric, ...]:
    """CIDEr-D over the captions of a clip."""
    return (cast(Metric, _metrics().Cider()),)


def of_single_answers() -> tuple[Metric, ...]:
    """Equality with the single answer."""
    return (cast(Metric, _metrics().ExactMatch()),)


def of_ivqa() -> tuple[Metric, ...]:
    """Two of five answers are enough."""
    return (cast(Metric, _metrics().IvqaAccuracy()),)


def of_next_qa() -> tuple[Metric, ...]:
    """Similarity of words, from 0.0 on."""
    return (cast(Metric, _metrics().NextQaWups()),)


def of_star() -> tuple[Metric, ...]:
    """The mean over the types of question."""
    return (cast(Metric, _metrics().StarAccuracy()),)


def of_rareact() -> tuple[Metric, ...]:
    """Weighted average precision of classes."""
    return (cast(Metric, _metrics().RareActMwap()),)


def of_classes(*, top: tuple[int, ...]) -> tuple[Metric, ...]:
    """The share of items whose class is among the likeliest; the mean, where there are several such shares."""
    return (cast(Metric, _metrics().ClassAccuracy(top=top)),)


NAMED: Mapping[str, Callable[[], Metric]] = MappingProxyType(
    {
        "cider": lambda: of_captions()[0],
        "class_top1": lambda: of_classes(top=(1,))[0],
        "class_top1_top5": lambda: of_classes(top=(1, 5))[0],
        "exact_match": lambda: of_single_answers()[0],
        "ivqa": lambda: of_ivqa()[0],
        "ndcg": lambda: of_dialogues()[0],
        "roc_auc": lambda: cast(Metric, _metrics().RocAuc()),
        "star": lambda: of_star()[0],
        "vqa_always": lambda: cast(Metric, _metrics().VqaAccuracy(profile="always")),
        "vqa_official": lambda: cast(Metric, _metrics().VqaAccuracy(profile="official")),
        "vqa_textvqa": lambda: cast(Metric, _metrics().VqaAccuracy(profile="textvqa")),
        "vqa_vizwiz": lambda: cast(Metric, _metrics().VqaAccuracy(profile="vizwiz")),
        "wups": lambda: of_next_qa()[0],
    }
)
