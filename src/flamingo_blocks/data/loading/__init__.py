"""Batches without end: order, shuffle, workers, mixtures, and going on exactly where a run stopped."""

from flamingo_blocks.data.loading.interleaved import InterleavedSource, ShareSchedule
from flamingo_blocks.data.loading.mixture import Mixture
from flamingo_blocks.data.loading.order import Place, SampleOrder
from flamingo_blocks.data.loading.ranks import data_parallel_rank
from flamingo_blocks.data.loading.source import Collate, DataSource, Documents, MakeExample
from flamingo_blocks.data.loading.stream import DataStream
from flamingo_blocks.data.loading.workers import WorkerDiedError

__all__ = [
    "Collate",
    "DataSource",
    "DataStream",
    "Documents",
    "InterleavedSource",
    "MakeExample",
    "Mixture",
    "Place",
    "SampleOrder",
    "ShareSchedule",
    "WorkerDiedError",
    "data_parallel_rank",
]
