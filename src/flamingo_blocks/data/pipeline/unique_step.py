"""Documents of one shard without those, and without the images, that are there more than once."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flamingo_blocks.data.build import Kept, Shard
from flamingo_blocks.data.documents import ImageSegment, InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.pipeline.apply_tables import Tables
from flamingo_blocks.data.pipeline.write_documents import Keyed, read_documents, write_documents


@dataclass(frozen=True)
class UniqueStep:
    """Take duplicates out of a shard: a step for `run_shards`.

    Args:
        tables: What is to go.
        min_images: 1 drops a document that loses all of its images as copies, 0 keeps it. With more, a document could
            go for having too few that holds the copy which stays of one.

    Example:
        >>> step = UniqueStep(Tables([]))
        >>> cat = InterleavedDocument.from_parts([b"...", "A cat."])
        >>> step.process(("page", cat)).value == ("page", cat)
        True
    """

    tables: Tables
    min_images: int = 1
    name: str = field(default="unique", init=False)
    suffix: str = field(default=".tar", init=False)

    @property
    def config(self) -> Mapping[str, Any]:
        """All that decides the output."""
        return {"tables": self.tables.digests, "min_images": self.min_images}

    def read(self, shard: Shard) -> Iterator[Keyed]:
        """The documents of a shard whose source is its file."""
        yield from read_documents(shard.source)

    def process(self, record: Keyed) -> Kept | Dropped:
        """What is left of a document, or why nothing is."""
        key, document = record
        found = self.tables.filter(key, document)
        if isinstance(found.document, Dropped):
            return found.document
        before, after = _num_images(document), _num_images(found.document)
        if before and self.min_images and not after:
            return Dropped("no_images", f"none of {before} images is no duplicate")
        return Kept((key, found.document), removed=found.removed)

    def write(self, results: Iterable[Keyed], file: Path) -> None:
        """A tar shard of documents."""
        write_documents(results, file)


def _num_images(document: InterleavedDocument) -> int:
    return sum(isinstance(segment, ImageSegment) for segment in document.segments)
