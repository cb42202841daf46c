"""Tables of duplicates, applied one after another."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from flamingo_blocks.data.dedup import Duplicates
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered


class Tables:
    """Tables in files, read when they are first used, in the process that uses them.

    Args:
        files: As `Duplicates.save` wrote them, in the order of the searches.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in self.files]

    @cached_property
    def _loaded(self) -> list[Duplicates]:
        return [Duplicates.load(file) for file in self.files]

    def __getstate__(self) -> dict[str, object]:
        return {"files": self.files, "digests": self.digests}

    def filter(self, key: str, document: InterleavedDocument) -> Filtered:
        """What all tables leave of a document, and what they take out.

        Args:
            key: That of its signatures.
            document: It.
        """
        left: InterleavedDocument | Dropped = document
        removed: tuple[Dropped, ...] = ()
        for table in self._loaded:
            if isinstance(left, InterleavedDocument):
                found = table.filter_items(key, left)
                left, removed = found.document, removed + found.removed
        return Filtered(left, removed)
