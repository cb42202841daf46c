"""Samples of a tar file by their number."""

import os
from collections.abc import Sequence
from operator import index as as_index
from os import PathLike
from pathlib import Path
from typing import Any, overload

from flamingo_blocks.data._tar_files.sample import Sample
from flamingo_blocks.data._tar_files.shard_index import MAX_MEMBER_BYTES, ShardIndex, index_shard
from flamingo_blocks.data._tar_files.walk_tar import TarMember
from flamingo_blocks.data.record_error import RecordError

GAP = 1 << 16  # bytes that are read and thrown away rather than to read twice


class ShardReader(Sequence[Sample]):
    """The samples of a tar file, each read by itself, in any order.

    The file is opened at the first read and read by place, so that threads and forked workers may share a reader; a
    pickled one opens it anew.

    Args:
        path: The tar file.
        save_index: Keep the index beside the file, so that it is made once.
        max_member_bytes: Largest member that is taken, half a gigabyte by default.

    Raises:
        OSError: If the file cannot be opened.
        IndexError: When asked for a sample behind the last one.

    Example:
        >>> from flamingo_blocks.data.shards import write_shard
        >>> _ = write_shard("00000.tar", [Sample("cat", {"txt": b"A cat."}), Sample("dog", {"txt": b"A dog."})])
        >>> reader = ShardReader("00000.tar")
        >>> len(reader), reader[1].members["txt"]
        (2, b'A dog.')
    """

    def __init__(
        self, path: str | PathLike[str], *, save_index: bool = False, max_member_bytes: int = MAX_MEMBER_BYTES
    ) -> None:
        self.path = Path(path)
        self.shard_index: ShardIndex = index_shard(path, save=save_index, max_member_bytes=max_member_bytes)
        self._handle: _Handle | None = None

    def __len__(self) -> int:
        return len(self.shard_index)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the samples, in the order of the file."""
        return self.shard_index.keys

    @property
    def problems(self) -> tuple[RecordError, ...]:
        """What the file holds and no sample does, and why."""
        return self.shard_index.problems

    @overload
    def __getitem__(self, number: int) -> Sample: ...
    @overload
    def __getitem__(self, number: slice) -> list[Sample]: ...
    def __getitem__(self, number: int | slice) -> Sample | list[Sample]:
        if isinstance(number, slice):
            return [self[k] for k in range(*number.indices(len(self)))]
        k = as_index(number)
        if not -len(self) <= k < len(self):
            raise IndexError(f"sample {k} of {len(self)} in {self.path.name}")
        k %= len(self)
        return Sample(self.keys[k], self._read(self.shard_index.members(k)))

    @property
    def is_open(self) -> bool:
        """Whether the file is open in this process."""
        return self._handle is not None

    def close(self) -> None:
        """Close the file; the next read opens it again."""
        self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def _read(self, members: list[TarMember]) -> dict[str, bytes]:
        handle = self._opened()
        first, last = members[0].offset, members[-1].offset + members[-1].size
        if last - first <= sum(member.size for member in members) + GAP:
            span = memoryview(handle.read(last - first, first))
            places = ((member, member.offset - first) for member in members)
            return {member.name: bytes(span[place : place + member.size]) for member, place in places}
        return {member.name: handle.read(member.size, member.offset) for member in members}

    def _opened(self) -> "_Handle":
        # Two threads may both open it here: the handle that loses is closed when its read is done.
        handle = self._handle
        if handle is None:
            handle = _Handle(self.path, self.shard_index)
            self._handle = handle
        return handle


class _Handle:
    """An open file, closed when nobody reads from it any more."""

    def __init__(self, path: Path, index: ShardIndex) -> None:
        self._name, self._number = path.name, os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        facts = os.fstat(self._number)
        if (facts.st_size, facts.st_mtime_ns) != (index.size_bytes, index.mtime_ns):
            raise self._changed()

    def __del__(self) -> None:
        number = getattr(self, "_number", None)
        if number is not None:
            os.close(number)

    def read(self, size: int, offset: int) -> bytes:
        data = os.pread(self._number, size, offset)
        if len(data) == size:
            return data
        pieces = [data]  # the system may give less than was asked for, of two gigabytes and more always
        while (missing := size - sum(map(len, pieces))) > 0:
            piece = os.pread(self._number, missing, offset + size - missing)
            if not piece:
                raise self._changed()
            pieces.append(piece)
        return b"".join(pieces)

    def _changed(self) -> OSError:
        """No fault of a record: whoever leaves broken records out must not leave out a shard so."""
        return OSError(f"{self._name} has changed since it was indexed; make a new reader")
