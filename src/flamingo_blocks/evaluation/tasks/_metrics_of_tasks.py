"""The metrics of the image tasks, in one place: the headline first, then what is reported beside it."""

from collections.abc import Iterable

from flamingo_blocks.evaluation.metrics import Cider, OkVqaAccuracy, RocAuc, StemMap, VqaAccuracy, VqaProfile
from flamingo_blocks.evaluation.score import Metric


def caption_metrics() -> tuple[Metric, ...]:
    """CIDEr-D over all images of the split."""
    return (Cider(),)


def vqa_metrics(profile: VqaProfile) -> tuple[Metric, ...]:
    """Soft accuracy of ten answers, normalised as the task's own script does, with open_flamingo's rule beside it.

    Args:
        profile: The rule of the headline.
    """
    return (VqaAccuracy(profile=profile), VqaAccuracy(profile="always"))


def okvqa_metrics(pairs: Iterable[tuple[str, str]]) -> tuple[Metric, ...]:
    """Soft accuracy of stems, which are learnt from the annotations.

    Args:
        pairs: Each answer as it was written, and its stem.
    """
    return (OkVqaAccuracy(stem_map=StemMap.learn(pairs)),)


def memes_metrics() -> tuple[Metric, ...]:
    """Area under the ROC curve."""
    return (RocAuc(),)
