"""The paper's contrastive stage: images and their texts, told apart from all others."""

from flamingo_blocks.training.contrast.contrastive import RetrievalAccuracy, contrastive_loss, retrieval_accuracy
from flamingo_blocks.training.contrast.two_towers import PairVectors, TwoTowers, two_towers_loss

__all__ = [
    "PairVectors",
    "RetrievalAccuracy",
    "TwoTowers",
    "contrastive_loss",
    "retrieval_accuracy",
    "two_towers_loss",
]
