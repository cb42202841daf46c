"""Fine-tuning: which parts train, and features of a frozen tower that are computed once."""

from flamingo_blocks.training.finetune.feature_cache import FeatureCache
from flamingo_blocks.training.finetune.parts import PARTS, Part, train_only

__all__ = ["PARTS", "FeatureCache", "Part", "train_only"]
