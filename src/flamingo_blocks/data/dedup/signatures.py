"""What a step found in one shard: some arrays, in memory or in a file."""

import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flamingo_blocks._optional import require
from flamingo_blocks.data.atomic_file import atomic_file

KIND = "kind"


@dataclass(frozen=True)
class Signatures:
    """What duplicates are told by, of the documents of one shard: small arrays in place of the documents.

    `signatures` of a finder makes it, `merge` of the same finder takes those of all shards. Those of finders that
    differ in kind or options are never mixed.

    Args:
        kind: Which finder made it, and how; a change of its way of counting is another kind.
        arrays: By name. Those of a loaded file are read at each look.

    Example:
        >>> from flamingo_blocks.data import InterleavedDocument
        >>> from flamingo_blocks.data.dedup import ExactDuplicates
        >>> shard = [(animal, InterleavedDocument.from_parts([animal])) for animal in ("cat", "dog")]
        >>> found = ExactDuplicates("text").signatures(shard)
        >>> found.kind, len(found)
        ('exact text 1', 2)
    """

    kind: str
    arrays: Mapping[str, Any]

    def __len__(self) -> int:
        """How many texts, images or whatever is compared."""
        return len(self.arrays["key_0"])

    def save(self, path: str | Path) -> None:
        """Write a file, which appears when it is whole; the same signatures give the same bytes.

        Args:
            path: Of the file; `.npz` is its usual ending.
        """
        write_arrays(path, self.kind, self.arrays)

    @classmethod
    def load(cls, path: str | Path) -> "Signatures":
        """Read a file; each array stays there until it is looked at.

        Args:
            path: Of the file.

        Raises:
            ValueError: If it was not written by `save`.
        """
        return cls(*read_arrays(path))


def write_arrays(path: str | Path, kind: str, arrays: Mapping[str, Any]) -> None:
    """Write named arrays to a file that appears when it is whole."""
    np = require("numpy", used_by="Signatures.save", extra="data")
    with atomic_file(Path(path)) as file:
        np.savez(file, **{KIND: np.frombuffer(kind.encode(), np.uint8)}, **arrays)


def read_arrays(path: str | Path) -> tuple[str, Mapping[str, Any]]:
    """The kind of a file of `write_arrays`, and its arrays, each read when it is looked at."""
    arrays = _ArraysOfFile(Path(path))
    if KIND not in arrays.names:
        raise ValueError(f"{path} holds the arrays {sorted(arrays.names)} and no {KIND!r}: no file of this library")
    return arrays[KIND].tobytes().decode(), arrays


class _ArraysOfFile(Mapping[str, Any]):
    """Arrays of a file, which is open only while one is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self.names = tuple(file.files)

    def _open(self) -> Any:
        np = require("numpy", used_by="Signatures.load", extra="data")
        try:
            found = np.load(self.path, allow_pickle=False)
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{self.path} is no file of signatures: {error}") from error
        if not hasattr(found, "files"):
            raise ValueError(f"{self.path} is no file of signatures: it holds a single array")
        return found

    def __getitem__(self, name: str) -> Any:
        with self._open() as file:
            return file[name]

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.names if name != KIND)

    def __len__(self) -> int:
        return sum(name != KIND for name in self.names)


def checked_partials(partials: Iterable["Signatures | str | Path"], kind: str) -> list[Signatures]:
    """Signatures of shards, those that are paths loaded, all of one kind."""
    found = [one if isinstance(one, Signatures) else Signatures.load(one) for one in partials]
    for number, one in enumerate(found):
        if one.kind != kind:
            raise ValueError(
                f"signatures {number} are of the kind {one.kind!r}, wanted {kind!r}; "
                "make those of all shards by the same finder, options and packages"
            )
    return found


def pack_strings(strings: Sequence[str]) -> tuple[Any, Any]:
    """Strings as one array of bytes, and where each ends."""
    np = require("numpy", used_by="Signatures", extra="data")
    encoded = [string.encode("utf-8", "surrogatepass") for string in strings]
    ends = np.cumsum([len(one) for one in encoded], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), ends


def unpack_string(packed: Any, ends: Any, number: int) -> str:
    """One of the strings that `pack_strings` put together."""
    start = int(ends[number - 1]) if number else 0
    text: str = packed[start : int(ends[number])].tobytes().decode("utf-8", "surrogatepass")
    return text


def column(partials: Sequence[Signatures], name: str) -> Any:
    """One array of all shards, in their order."""
    np = require("numpy", used_by="merge", extra="data")
    return np.concatenate([np.empty(0, np.uint64), *(one.arrays[name] for one in partials)])
