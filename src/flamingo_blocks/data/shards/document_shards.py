"""Many shards as one sequence of documents."""

import hashlib
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from operator import index as as_index
from os import PathLike
from pathlib import Path
from typing import Any, overload

from flamingo_blocks.data._tar_files.shard_index import MAX_MEMBER_BYTES
from flamingo_blocks.data._tar_files.shard_reader import ShardReader
from flamingo_blocks.data.documents import InterleavedDocument
from flamingo_blocks.data.record_error import RecordError
from flamingo_blocks.data.records import read_sample

MAX_OPEN = 128


class DocumentShards(Sequence[InterleavedDocument]):
    """Documents of tar shards, any of them at any time, as one sequence.

    Use it as the source of a loader: it has a length, gives document `i` by itself, and can be handed to workers, by
    fork or pickled. Shards are ours, or pairs of img2dataset or WebVid, or OpenFlamingo's MMC4, as they are. The files
    are opened when they are read from, a limited number at a time.

    Args:
        paths: The shards in order, or a folder whose `.tar` files are taken in the order of their names.
        save_index: Keep an index beside each shard, so that it is made once; without it, one that is there is used,
            and others are made each time.
        max_member_bytes: Largest member that is taken, half a gigabyte by default.

    Raises:
        ValueError: If there are no shards, or one of them is no file.
        IndexError: When asked for a document behind the last one.

    Example:
        >>> from flamingo_blocks.data.records import to_members
        >>> from flamingo_blocks.data.shards import Sample, write_shard
        >>> texts = InterleavedDocument.from_parts(["A cat."]), InterleavedDocument.from_parts(["A dog."])
        >>> _ = write_shard("0.tar", [Sample(f"{k}", to_members(text)) for k, text in enumerate(texts)])
        >>> shards = DocumentShards(["0.tar"])
        >>> len(shards), shards[1].text, shards.key(1)
        (2, 'A dog.', '0/1')
    """

    def __init__(
        self,
        paths: str | PathLike[str] | Iterable[str | PathLike[str]],
        *,
        save_index: bool = False,
        max_member_bytes: int = MAX_MEMBER_BYTES,
    ) -> None:
        self.paths = _shards(paths)
        self._readers = [
            ShardReader(path, save_index=save_index, max_member_bytes=max_member_bytes) for path in self.paths
        ]
        self._ends = list(accumulate(len(reader) for reader in self._readers))
        self._open: deque[int] = deque()

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, number: int) -> InterleavedDocument: ...
    @overload
    def __getitem__(self, number: slice) -> list[InterleavedDocument]: ...
    def __getitem__(self, number: int | slice) -> InterleavedDocument | list[InterleavedDocument]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        shard, place = self._place(number)
        reader = self._readers[shard]
        if not reader.is_open:
            self._close_one()
            self._open.append(shard)
        try:
            sample = reader[place]
            return read_sample(sample.key, sample.members)
        except RecordError as error:
            raise error.at(file=reader.path.name, record=reader.keys[place]) from error.__cause__

    def key(self, number: int) -> str:
        """Name of a document among all shards: that of its shard without ending, a slash, and its own.

        Args:
            number: Of the document.

        Raises:
            IndexError: If there are not so many.
        """
        shard, place = self._place(number)
        reader = self._readers[shard]
        return f"{reader.path.stem}/{reader.keys[place]}"

    @property
    def problems(self) -> tuple[RecordError, ...]:
        """What the shards hold and no document does, such as what was cut off, and why."""
        return tuple(problem for reader in self._readers for problem in reader.problems)

    @cached_property
    def fingerprint(self) -> str:
        """A sha256 of the names of the shards, of their keys, and of places and sizes of all members, in order.

        What was saved about a position in the shards belongs to these shards only; the folder may move. The members
        themselves are not read.
        """
        digest = hashlib.sha256()
        for reader in self._readers:
            index = reader.shard_index
            told = (reader.path.name, str(index.size_bytes), *index.keys)
            digest.update("\0".join(told).encode("utf-8", "surrogateescape"))
            for numbers in (index.starts, index.offsets, index.sizes):
                digest.update(numbers.tobytes())
        return digest.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": deque()}

    def _place(self, number: int) -> tuple[int, int]:
        k = as_index(number)
        if not -len(self) <= k < len(self):
            raise IndexError(f"document {k} of {len(self)}")
        k %= len(self)
        shard = bisect_right(self._ends, k)
        return shard, k - (self._ends[shard - 1] if shard else 0)

    def _close_one(self) -> None:
        """Close the file that was opened first, where too many are open; whoever is reading from it reads on."""
        if len(self._open) >= MAX_OPEN:
            self._readers[self._open.popleft()].close()


def _shards(paths: str | PathLike[str] | Iterable[str | PathLike[str]]) -> list[Path]:
    if isinstance(paths, str | PathLike):
        folder = Path(paths)
        found = sorted(folder.glob("*.tar")) if folder.is_dir() else [folder]
    else:
        found = [Path(path) for path in paths]
    if not found:
        below = [] if not isinstance(paths, str | PathLike) else sorted(Path(paths).glob("*/*.tar"))
        hint = f"; there are shards in {str(below[0].parent)!r}" if below else ""
        raise ValueError(f"paths is {str(paths)!r}, which holds no shard; wanted one .tar file or more{hint}")
    for path in found:
        if not path.is_file():
            told = "a folder among files" if path.is_dir() else "where there is no file"
            raise ValueError(f"paths names {str(path)!r}, {told}; wanted .tar files, or one folder of them")
    return found
