"""Tar shards of samples: written whole, indexed once, read in any order."""

from flamingo_blocks.data._tar_files.sample import Sample
from flamingo_blocks.data._tar_files.shard_index import ShardIndex, index_shard
from flamingo_blocks.data._tar_files.shard_reader import ShardReader
from flamingo_blocks.data._tar_files.write_shard import write_shard
from flamingo_blocks.data.shards.document_shards import DocumentShards

__all__ = ["DocumentShards", "Sample", "ShardIndex", "ShardReader", "index_shard", "write_shard"]
