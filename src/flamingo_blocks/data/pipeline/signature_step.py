"""Documents of one shard to what duplicates are told by."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from flamingo_blocks.data.build import Shard
from flamingo_blocks.data.dedup import Duplicates, Signatures
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.pipeline.apply_tables import Tables
from flamingo_blocks.data.pipeline.plain_values import plain_values
from flamingo_blocks.data.pipeline.write_documents import Keyed, read_documents


@runtime_checkable
class Finder(Protocol):
    """What finds duplicates in two passes: `ExactDuplicates`, `TextNearDuplicates`, `ImageNearDuplicates`.

    Example:
        >>> from flamingo_blocks.data.dedup import ExactDuplicates
        >>> isinstance(ExactDuplicates("text"), Finder)
        True
    """

    kind: str

    def signatures(self, documents: Iterable[tuple[str, InterleavedDocument]]) -> Signatures:
        """What the documents of one shard are compared by."""

    def merge(self, partials: Iterable[Signatures | str | Path]) -> Duplicates:
        """What is to go, of all shards."""


@dataclass(frozen=True)
class SignatureStep:
    """Make the signatures of a shard, of what earlier searches have left of it: a step for `run_shards`.

    A document that is to go for another reason already is compared with none, so nothing goes for its sake.

    Args:
        finder: Makes the signatures.
        earlier: Tables of earlier searches.

    Example:
        >>> from flamingo_blocks.data.dedup import ExactDuplicates
        >>> step = SignatureStep(ExactDuplicates("text"), Tables([]))
        >>> step.config["finder"], step.config["earlier"]
        ('exact text 1', [])
    """

    finder: Finder
    earlier: Tables
    name: str = field(default="signatures", init=False)
    suffix: str = field(default=".npz", init=False)

    @property
    def config(self) -> Mapping[str, Any]:
        """All that decides the output."""
        return {"finder": self.finder.kind, "options": plain_values(self.finder), "earlier": self.earlier.digests}

    def read(self, shard: Shard) -> Iterator[Keyed]:
        """The documents of a shard whose source is its file."""
        yield from read_documents(shard.source)

    def process(self, record: Keyed) -> Keyed | Dropped:
        """What earlier searches have left of a document."""
        key, document = record
        left = self.earlier.filter(key, document).document
        return left if isinstance(left, Dropped) else (key, left)

    def write(self, results: Iterable[Keyed], file: Path) -> None:
        """A file of signatures."""
        self.finder.signatures(results).save(file)
