"""Metrics of the paper's tasks: functions on plain values, and classes that score predictions against items."""

from flamingo_blocks.evaluation.metrics.bootstrap import (
    clustered_bootstrap,
    metric_difference,
    metric_interval,
    paired_difference,
)
from flamingo_blocks.evaluation.metrics.candidate_scores import candidate_scores
from flamingo_blocks.evaluation.metrics.cider import Cider, CiderScores, cider_d
from flamingo_blocks.evaluation.metrics.class_accuracy import ClassAccuracy, StarAccuracy
from flamingo_blocks.evaluation.metrics.document_frequencies import DocumentFrequencies
from flamingo_blocks.evaluation.metrics.exact_match import ExactMatch, IvqaAccuracy, ivqa_accuracy, top1
from flamingo_blocks.evaluation.metrics.fold_lines import fold_lines
from flamingo_blocks.evaluation.metrics.ndcg import Ndcg, ndcg
from flamingo_blocks.evaluation.metrics.normalise_vqa import VqaProfile, normalise_vqa
from flamingo_blocks.evaluation.metrics.ptb_tokenize import ptb_tokenize
from flamingo_blocks.evaluation.metrics.rareact import RareAct, RareActClip, rareact_mwap, weighted_average_precision
from flamingo_blocks.evaluation.metrics.roc_auc import RocAuc, roc_auc
from flamingo_blocks.evaluation.metrics.stem_map import OkVqaAccuracy, StemMap
from flamingo_blocks.evaluation.metrics.stop_words import STOP_WORDS
from flamingo_blocks.evaluation.metrics.vqa_accuracy import VqaAccuracy, vqa_accuracy
from flamingo_blocks.evaluation.metrics.wordnet import WordNet
from flamingo_blocks.evaluation.metrics.wups import NextQa, wups

__all__ = [
    "STOP_WORDS",
    "Cider",
    "CiderScores",
    "ClassAccuracy",
    "DocumentFrequencies",
    "ExactMatch",
    "IvqaAccuracy",
    "Ndcg",
    "NextQa",
    "OkVqaAccuracy",
    "RareAct",
    "RareActClip",
    "RocAuc",
    "StarAccuracy",
    "StemMap",
    "VqaAccuracy",
    "VqaProfile",
    "WordNet",
    "candidate_scores",
    "cider_d",
    "clustered_bootstrap",
    "fold_lines",
    "ivqa_accuracy",
    "metric_difference",
    "metric_interval",
    "ndcg",
    "normalise_vqa",
    "paired_difference",
    "ptb_tokenize",
    "rareact_mwap",
    "roc_auc",
    "top1",
    "vqa_accuracy",
    "weighted_average_precision",
    "wups",
]
