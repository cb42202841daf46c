"""What is to go, and what stays in its place."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.parts import PARTS, Part, PartName, without
from flamingo_blocks.data.dedup.signatures import read_arrays, unpack_string, write_arrays
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.filtered import Filtered

VERSION = "duplicates 1"


@dataclass(frozen=True)
class Duplicates:
    """All that a search for duplicates found, as one small table for every shard.

    `merge` of a finder makes it. Where documents are compared, all of a group but one are dropped; where images or
    paragraphs are, they are taken out of their documents. Filtering twice is filtering once.

    Args:
        of: What is compared: `"document"`, `"image"` by content, `"image_url"` or `"paragraph"`.
        reason: Why something goes, in counts.
        arrays: The keys of all that has duplicates, in order; for each which document has the one that stays, and
            whether that has the content of the key.

    Example:
        >>> from flamingo_blocks.data.dedup import ExactDuplicates
        >>> cat, dog = InterleavedDocument.from_parts(["Cats."]), InterleavedDocument.from_parts(["Dogs."])
        >>> find = ExactDuplicates("text")
        >>> duplicates = find.merge([find.signatures([("a", cat), ("b", dog)]), find.signatures([("c", cat)])])
        >>> duplicates.filter("a", cat) is cat
        True
        >>> duplicates.filter("c", cat)
        Dropped(reason='duplicate_text', detail="as in 'a'")
    """

    of: PartName
    reason: str
    arrays: Mapping[str, Any]

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that `filter` may say or count."""
        return (self.reason,)

    @property
    def num_removed(self) -> int:
        """How many documents, images or paragraphs go, in all shards together."""
        return int(self.arrays["num_removed"])

    def filter(self, key: str, document: InterleavedDocument) -> InterleavedDocument | Dropped:
        """Keep a document, all or what is left of it, or say why not.

        Args:
            key: That of its signatures.
            document: It.
        """
        return self.filter_items(key, document).document

    def filter_items(self, key: str, document: InterleavedDocument) -> Filtered:
        """What is left of a document, and what was taken out.

        Args:
            key: That of its signatures.
            document: It.
        """
        gone = []
        why = []
        seen: set[int] = set()
        for part in PARTS[self.of](key, document):
            if (stays_in := self._gone(key, part, first=part.key not in seen)) is not None:
                gone.append(part)
                why.append(Dropped(self.reason, f"as in {stays_in!r}" if stays_in else ""))
                if self.of == "document":
                    return Filtered(why[0])
            seen.add(part.key)
        return Filtered(without(document, gone) if gone else document, tuple(why))

    def _gone(self, key: str, part: Part, *, first: bool) -> str | None:
        """Which document has what stays in place of a part, empty where none has; `None` if it is this part."""
        np = require("numpy", used_by="Duplicates", extra="data")
        keys = self.arrays["keys"]
        place = int(np.searchsorted(keys, np.uint64(part.key)))
        if place == len(keys) or int(keys[place]) != part.key:
            return None
        owner = int(self.arrays["owners"][place])
        name = unpack_string(self.arrays["names"], self.arrays["name_ends"], owner) if owner >= 0 else ""
        return None if first and self.arrays["stays"][place] and name == key else name

    def save(self, path: str | Path) -> None:
        """Write a file, which appears when it is whole.

        Args:
            path: Of the file; `.npz` is its usual ending.
        """
        write_arrays(path, f"{VERSION} {self.of} {self.reason}", self.arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Duplicates":
        """Read a file that `save` wrote.

        Args:
            path: Of the file.

        Raises:
            ValueError: If it is none.
        """
        kind, arrays = read_arrays(path)
        version, _, rest = kind.rpartition(" ")[0].rpartition(" ")
        if version != VERSION or rest not in PARTS:
            raise ValueError(f"{path} is of the kind {kind!r}, wanted {VERSION!r}: not written by Duplicates.save")
        return cls(rest, kind.rpartition(" ")[2], {name: arrays[name] for name in arrays})
