"""Metrics of the paper's tasks: functions on plain values, and classes that score predictions against items."""

from flamingo_blocks.evaluation.metrics.bootstrap import (
    clustered_bootstrap,
    metric_difference,
    metric_interval,
    paired_difference,
)
from flamingo_blocks.evaluation.metrics.cider import Cider, CiderScores, cider_d
from flamingo_blocks.evaluation.metrics.document_frequencies import DocumentFrequencies
from flamingo_blocks.evaluation.metrics.ndcg import Ndcg, ndcg
from flamingo_blocks.evaluation.metrics.normalise_vqa import VqaProfile, normalise_vqa
from flamingo_blocks.evaluation.metrics.ptb_tokenize import ptb_tokenize
from flamingo_blocks.evaluation.metrics.rareact import (
    RareAct,
    RareActClip,
    rareact_mwap,
    weighted_average_precision,
)
from flamingo_blocks.evaluation.metrics.roc_auc import RocAuc, roc_auc
from flamingo_blocks.evaluation.metrics.vqa_accuracy import VqaAccuracy, vqa_accuracy

__all__ = [
    "Cider",
    "CiderScores",
    "DocumentFrequencies",
    "Ndcg",
    "RareAct",
    "RareActClip",
    "RocAuc",
    "VqaAccuracy",
    "VqaProfile",
    "cider_d",
    "clustered_bootstrap",
    "metric_difference",
    "metric_interval",
    "ndcg",
    "normalise_vqa",
    "paired_difference",
    "ptb_tokenize",
    "rareact_mwap",
    "roc_auc",
    "vqa_accuracy",
    "weighted_average_precision",
]
