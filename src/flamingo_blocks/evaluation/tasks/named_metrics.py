"""Metrics by the names that files of tasks have for them."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from flamingo_blocks.evaluation.metrics import (
    Cider,
    ClassAccuracy,
    ExactMatch,
    IvqaAccuracy,
    Ndcg,
    NextQa,
    RocAuc,
    StarAccuracy,
    VqaAccuracy,
)
from flamingo_blocks.evaluation.score import Metric


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
