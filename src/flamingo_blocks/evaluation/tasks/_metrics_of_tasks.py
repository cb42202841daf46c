"""The metrics of the image tasks, in one place: the headline first, then what is reported beside it."""

import importlib
from collections.abc import Iterable
from typing import Any

from flamingo_blocks.evaluation.score import Metric


def caption_metrics() -> tuple[Metric, ...]:
    """CIDEr-D over all images of the split."""
    return (_metric("Cider")(),)


def vqa_metrics(profile: str) -> tuple[Metric, ...]:
    """Soft accuracy of ten answers, normalised as the task's own script does, with open_flamingo's rule beside it.

    Args:
        profile: The rule of the headline.
    """
    accuracy = _metric("VqaAccuracy")
    return (accuracy(profile=profile), accuracy(profile="always"))


def okvqa_metrics(pairs: Iterable[tuple[str, str]]) -> tuple[Metric, ...]:
    """Soft accuracy of stems, which are learnt from the annotations.

    Args:
        pairs: Each answer as it was written, and its stem.
    """
    return (_metric("OkVqaAccuracy")(stem_map=_metric("StemMap").learn(pairs)),)


def memes_metrics() -> tuple[Metric, ...]:
    """Area under the ROC curve."""
    return (_metric("RocAuc")(),)


def _metric(name: str) -> Any:
    return getattr(importlib.import_module("flamingo_blocks.evaluation.metrics"), name)
