"""Duplicates: small signatures of every shard, merged into one table of what is to go."""

from flamingo_blocks.data.dedup.canonical_text import canonical_text
from flamingo_blocks.data.dedup.dhash import dhash
from flamingo_blocks.data.dedup.duplicates import Duplicates
from flamingo_blocks.data.dedup.evaluation_images import EvaluationImages, EvaluationMatch
from flamingo_blocks.data.dedup.exact_duplicates import ExactDuplicates
from flamingo_blocks.data.dedup.frequent_parts import FrequentParts
from flamingo_blocks.data.dedup.image_near_duplicates import ImageNearDuplicates
from flamingo_blocks.data.dedup.repeated_images import RepeatedImages
from flamingo_blocks.data.dedup.signatures import Signatures
from flamingo_blocks.data.dedup.text_near_duplicates import TextNearDuplicates

__all__ = [
    "Duplicates",
    "EvaluationImages",
    "EvaluationMatch",
    "ExactDuplicates",
    "FrequentParts",
    "ImageNearDuplicates",
    "RepeatedImages",
    "Signatures",
    "TextNearDuplicates",
    "canonical_text",
    "dhash",
]
