"""Which items are shown before a query, drawn by hash or found by what their pictures show."""

from flamingo_blocks.evaluation.shots.assign_groups import assign_groups
from flamingo_blocks.evaluation.shots.keyed_order import keyed_order
from flamingo_blocks.evaluation.shots.nearest_items import nearest_items
from flamingo_blocks.evaluation.shots.own_shots import OwnShots
from flamingo_blocks.evaluation.shots.permutations_of import permutations_of
from flamingo_blocks.evaluation.shots.random_shots import RandomShots
from flamingo_blocks.evaluation.shots.rices_features import rices_features
from flamingo_blocks.evaluation.shots.rices_shots import RicesShots
from flamingo_blocks.evaluation.shots.select_support import PaperSubsets, paper_subsets, select_support
from flamingo_blocks.evaluation.shots.shot_source import ShotSource

__all__ = [
    "OwnShots",
    "PaperSubsets",
    "RandomShots",
    "RicesShots",
    "ShotSource",
    "assign_groups",
    "keyed_order",
    "nearest_items",
    "paper_subsets",
    "permutations_of",
    "rices_features",
    "select_support",
]
