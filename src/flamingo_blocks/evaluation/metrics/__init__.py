"""Metrics of the paper's tasks: functions on plain values, and classes that score predictions against items."""

from flamingo_blocks.evaluation.metrics.cider import Cider, CiderScores, cider_d
from flamingo_blocks.evaluation.metrics.document_frequencies import DocumentFrequencies
from flamingo_blocks.evaluation.metrics.normalise_vqa import VqaProfile, normalise_vqa
from flamingo_blocks.evaluation.metrics.ptb_tokenize import ptb_tokenize
from flamingo_blocks.evaluation.metrics.vqa_accuracy import VqaAccuracy, vqa_accuracy

__all__ = [
    "Cider",
    "CiderScores",
    "DocumentFrequencies",
    "VqaAccuracy",
    "VqaProfile",
    "cider_d",
    "normalise_vqa",
    "ptb_tokenize",
    "vqa_accuracy",
]
