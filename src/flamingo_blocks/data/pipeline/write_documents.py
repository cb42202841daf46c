"""Documents with their keys to a tar shard, and from one."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.records import read_sample, to_members
from flamingo_blocks.data.shards import Sample, ShardReader, write_shard

Keyed = tuple[str, InterleavedDocument]


def document_key(shard: str, number: int) -> str:
    """Key of a document: unique among all shards, without the dot that ends a key in a tar shard.

    Args:
        shard: Name of the shard that it comes from.
        number: Of the record in it.

    Example:
        >>> document_key("00002-crawl.warc.gz", 7)
        '00002-crawl_warc_gz-000007'
    """
    return f"{shard.replace('.', '_')}-{number:06d}"


def write_documents(documents: Iterable[Keyed], file: Path) -> None:
    """Write a tar shard of documents.

    Args:
        documents: Each with its key.
        file: Where to.
    """
    write_shard(file, (Sample(key, to_members(document)) for key, document in documents))


def read_documents(file: Path) -> Iterator[Keyed]:
    """Read a tar shard of documents, one at a time.

    Args:
        file: As `write_documents` wrote it.
    """
    reader = ShardReader(file)
    try:
        if reader.problems:
            raise reader.problems[0]
        for number in range(len(reader)):
            sample = reader[number]
            yield sample.key, read_sample(sample.key, sample.members)
    finally:
        reader.close()
