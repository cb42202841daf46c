"""What is to go, and what stays in its place."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.dedup.components import Components
from flamingo_blocks.data.dedup.parts import PARTS, Part, PartName, without
from flamingo_blocks.data.dedup.signatures import Signatures, pack_strings, read_arrays, unpack_string, write_arrays
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.dropped import Dropped

VERSION = "duplicates 1"
Join = Callable[[Components, Sequence[Signatures]], None]


@dataclass(frozen=True)
class Duplicates:
    """All that a search for duplicates found, as one small table for every shard.

    `merge` of a finder makes it. Where documents are compared, all of a group but one are dropped; where images or
    paragraphs are, they are taken out of their documents. Filtering twice is filtering once.

    Args:
        of: What is compared: `"document"`, `"image"` by content, `"image_url"` or `"paragraph"`.
        reason: Why something goes, in counts.
        arrays: Keys of what goes, and in which document the one that stays is.

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

    def filter(
        self, key: str, document: InterleavedDocument, *, counts: Counter[str] | None = None
    ) -> InterleavedDocument | Dropped:
        """Keep a document, all or what is left of it, or say why not.

        Args:
            key: That of its signatures.
            document: It.
            counts: Where images and paragraphs that go are counted, by the reason. A document that goes is a `Dropped`,
                for the caller to count.
        """
        gone = []
        seen: set[int] = set()
        for part in PARTS[self.of](key, document):
            if (stays_in := self._gone(key, part, first=part.key not in seen)) is not None:
                gone.append(part)
                if self.of == "document":
                    return Dropped(self.reason, f"as in {stays_in!r}")
            seen.add(part.key)
        if not gone:
            return document
        if counts is not None:
            counts[self.reason] += len(gone)
        return without(document, gone)

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


def group(partials: Sequence[Signatures], *, of: PartName, reason: str, join: Join) -> Duplicates:
    """Put rows of all shards together, and keep of each group the newest, then the least document.

    Args:
        partials: Of all shards, of one kind.
        of: What is compared.
        reason: Why what does not stay goes.
        join: Joins the rows that belong together.
    """
    np = require("numpy", used_by="merge", extra="data")
    _refuse_repeated_documents(np, partials)
    sizes = [len(one) for one in partials]
    rows = Components(sum(sizes))
    join(rows, partials)
    several = np.bincount(rows.roots, minlength=1)[rows.roots] > 1
    members: dict[int, list[tuple[int, str, int, int]]] = {}
    starts = np.cumsum([0, *sizes])
    for start, one in zip(starts.tolist(), partials, strict=False):
        for row, member in _members(np, one, several[start : start + len(one)]):
            members.setdefault(int(rows.roots[start + row]), []).append(member)
    table: dict[int, tuple[str | None, bool]] = {}
    for found in members.values():
        _, owner, _, kept = min(found)
        table.update((key, (owner, key == kept)) for *_, key in found)
    return table_of(of, reason, table, num_removed=sum(map(len, members.values())) - len(members))


def _members(np: Any, one: Signatures, chosen: Any) -> Iterator[tuple[int, tuple[int, str, int, int]]]:
    """Chosen rows: rank, document, segment and key of what may go."""
    picked = np.flatnonzero(chosen)
    if not len(picked):
        return
    names, ends = one.arrays["names"], one.arrays["name_ends"]
    columns = (one.arrays[name][picked].tolist() for name in ("rank", "document", "segment", "part"))
    for row, rank, document, segment, part in zip(picked.tolist(), *columns, strict=True):
        yield row, (rank, unpack_string(names, ends, document), segment, part)


def _refuse_repeated_documents(np: Any, partials: Sequence[Signatures]) -> None:
    keys = np.concatenate([np.empty(0, np.uint64), *(one.arrays["name_keys"] for one in partials)])
    order = np.argsort(keys, kind="stable")
    again = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    if len(again):
        row = int(order[again[0] + 1])
        for one in partials:
            number = len(one.arrays["name_keys"])
            if row < number:
                name = unpack_string(one.arrays["names"], one.arrays["name_ends"], row)
                raise ValueError(f"the document {name!r} was given twice; every document needs a key of its own")
            row -= number


def table_of(
    of: PartName, reason: str, table: Mapping[int, tuple[str | None, bool]], *, num_removed: int
) -> Duplicates:
    """A table of keys, and for each which document has what stays, and whether that is the content of the key."""
    np = require("numpy", used_by="merge", extra="data")
    kept = sorted({owner for owner, _ in table.values() if owner is not None})
    number = {owner: place for place, owner in enumerate(kept)}
    rows = sorted((key, -1 if owner is None else number[owner], stays) for key, (owner, stays) in table.items())
    names, ends = pack_strings(kept)
    return Duplicates(
        of, reason,
        {
            "keys": np.array([key for key, *_ in rows], np.uint64),
            "owners": np.array([owner for _, owner, _ in rows], np.int32),
            "stays": np.array([stays for *_, stays in rows], bool),
            "names": names,
            "name_ends": ends,
            "num_removed": np.array(num_removed),
        },
    )  # fmt: skip
