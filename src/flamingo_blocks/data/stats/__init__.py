"""What documents are like, counted."""

from flamingo_blocks.data.stats.bounded_counts import FrequentNames, Histogram, RepeatedHashes
from flamingo_blocks.data.stats.document_hash import document_hash
from flamingo_blocks.data.stats.document_stats import DocumentStats, document_stats
from flamingo_blocks.data.stats.format_stats import format_stats

__all__ = [
    "DocumentStats",
    "FrequentNames",
    "Histogram",
    "RepeatedHashes",
    "document_hash",
    "document_stats",
    "format_stats",
]
