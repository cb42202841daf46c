"""Where each member of each sample lies in a tar file."""

import json
import os
import re
from array import array
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from flamingo_blocks.data._tar_files.walk_tar import TarMember, TarTrouble, TarWalk
from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.data.record_error import RecordError

VERSION = 1
MAX_MEMBER_BYTES = 512 << 20
# A key ends at the first dot of the last part of the name, as for webdataset.
NAME = re.compile(r"((?:[A-Za-z0-9._-]+/)*[A-Za-z0-9_-]+)\.([A-Za-z0-9._-]{1,200})")
MAX_KEY = 200
OF_WEBDATASET = re.compile(r"__[^/]*__(?:$|/)")  # names that it keeps for itself


@dataclass(frozen=True)
class ShardIndex:
    """The samples of a tar file: their keys, and where their members lie.

    Args:
        size_bytes: Of the file that was read.
        mtime_ns: When it was last changed; an index of another size or time is not used.
        max_member_bytes: Members beyond it were left out.
        keys: Of the samples, in the order of the file.
        starts: Number of the first member of each sample, and the number of all members at the end.
        suffixes: Different names of members, without their key.
        suffix_ids: Which of them each member has.
        offsets: Where the bytes of each member begin.
        sizes: How many they are.
        problems: What was left out, and why.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.data.shards import Sample, write_shard
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = write_shard(f"{folder}/0.tar", [Sample("cat", {"txt": b"A cat.", "jpg": b"..."})])
        ...     index = index_shard(f"{folder}/0.tar")
        >>> index.keys, [(member.name, member.size) for member in index.members(0)]
        (('cat',), [('txt', 6), ('jpg', 3)])
    """

    size_bytes: int
    mtime_ns: int
    max_member_bytes: int
    keys: tuple[str, ...]
    starts: "array[int]"
    suffixes: tuple[str, ...]
    suffix_ids: "array[int]"
    offsets: "array[int]"
    sizes: "array[int]"
    problems: tuple[RecordError, ...]

    def __len__(self) -> int:
        return len(self.keys)

    def members(self, number: int) -> list[TarMember]:
        """Name without key, place and size of each member of a sample.

        Args:
            number: Of the sample, from 0.
        """
        return [
            TarMember(self.suffixes[self.suffix_ids[k]], self.offsets[k], self.sizes[k])
            for k in range(self.starts[number], self.starts[number + 1])
        ]


def index_shard(
    path: str | PathLike[str], *, save: bool = False, max_member_bytes: int = MAX_MEMBER_BYTES
) -> ShardIndex:
    """Find the samples of a tar file, so that each can be read by itself. Nothing is unpacked.

    Members that stand together and share a key make a sample, as for webdataset. What is no plain file with a plain
    name is left out and told in `problems`: links, devices, absolute names, names with `..`, members beyond a cap, a
    key or a member that comes twice. A file that was cut off gives the samples before the cut; the one that was cut
    is not among them, and the problem is `truncated_shard`.

    Args:
        path: The tar file; ustar, GNU and pax, not compressed.
        save: Keep the index in `<path>.index.json`. One that is there is used without it too, when it was made of a
            file of this size and time.
        max_member_bytes: Largest member that is taken, half a gigabyte by default.

    Example:
        >>> from flamingo_blocks.data.shards import Sample, write_shard
        >>> _ = write_shard("00000.tar", [Sample("cat", {"jpg": b"...", "txt": b"A cat."})])
        >>> index = index_shard("00000.tar")
        >>> index.keys, [member.name for member in index.members(0)]
        (('cat',), ['jpg', 'txt'])
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.index.json")
    with path.open("rb", buffering=0) as file:
        facts = os.fstat(file.fileno())
        stamp = (facts.st_size, facts.st_mtime_ns, max_member_bytes)
        saved = _load(beside, stamp, path.name)
        if saved is not None:
            return saved
        handle = file.fileno()
        builder = _Builder(path.name, max_member_bytes)
        for found in TarWalk(lambda size, offset: os.pread(handle, size, offset), facts.st_size):
            if isinstance(found, TarMember):
                builder.take(found)
            else:
                builder.trouble(found)
    index = builder.finish(stamp)
    if save:
        _save(beside, index)
    return index


class _Builder:
    """Groups members into samples."""

    def __init__(self, file: str, max_member_bytes: int) -> None:
        self.file, self.max_member_bytes = file, max_member_bytes
        self.keys: dict[str, None] = {}
        self.starts, self.suffix_ids = [0], list[int]()
        self.offsets, self.sizes = list[int](), list[int]()
        self.suffixes: dict[str, int] = {}
        self.problems: list[RecordError] = []
        self._key: str | None = None
        self._members: dict[str, TarMember] = {}

    def take(self, found: TarMember) -> None:
        key, _, suffix = found.name.partition(".")
        if key != self._key or suffix not in self.suffixes:  # else it is as plain as those before it
            if key.startswith("__") and OF_WEBDATASET.match(found.name):
                return
            split = _split(found.name)
            if split is None:
                self._told("name", "wanted key, dot and ending, of A-Z a-z 0-9 . _ - and without '..'", found.name)
                return
            key, suffix = split
            if key != self._key:
                self._close()
                self._key = key
        if found.size > self.max_member_bytes:
            limit = self.max_member_bytes
            self._told("member_size", f"has {found.size} bytes, wanted {limit} at most", suffix, key)
        elif suffix in self._members:
            self._told("duplicate_member", "comes twice, the second is left out", suffix, key)
        else:
            self._members[suffix] = found

    def trouble(self, found: TarTrouble) -> None:
        self._told(found.reason, found.detail, found.name)
        split = None if found.name is None else _split(found.name)
        if found.fatal and (split is None or split[0] == self._key):
            self._key, self._members = None, {}  # whether more of the sample would have come, nobody knows

    def finish(self, stamp: tuple[int, int, int]) -> ShardIndex:
        self._close()
        return ShardIndex(
            *stamp, tuple(self.keys), array("Q", self.starts), tuple(self.suffixes), array("L", self.suffix_ids),
            array("Q", self.offsets), array("Q", self.sizes), tuple(self.problems),
        )  # fmt: skip

    def _close(self) -> None:
        key, members = self._key, self._members
        self._key, self._members = None, {}
        if key is None or not members:
            return
        if key in self.keys:
            self._told("duplicate_key", "an earlier sample has this key; this one is left out", None, key)
            return
        self.keys[key] = None
        known = self.suffixes
        for suffix, (_, offset, size) in members.items():
            number = known.get(suffix)
            if number is None:
                number = known[suffix] = len(known)
            self.suffix_ids.append(number)
            self.offsets.append(offset)
            self.sizes.append(size)
        self.starts.append(len(self.offsets))

    def _told(self, reason: str, detail: str, member: str | None = None, key: str | None = None) -> None:
        self.problems.append(RecordError(detail, reason=reason, file=self.file, record=key, field=member))


def _split(name: str) -> tuple[str, str] | None:
    """Key and rest of a plain name."""
    found = NAME.fullmatch(name.removeprefix("./"))
    if found is None or len(found[1]) > MAX_KEY or ".." in found[1].split("/"):
        return None
    return found[1], found[2].lower()


def _save(path: Path, index: ShardIndex) -> None:
    told = {
        "flamingo_blocks_index": VERSION,
        **{name: value for name, value in vars(index).items() if not isinstance(value, array)},
        **{name: value.tolist() for name, value in vars(index).items() if isinstance(value, array)},
        "problems": [[e.problem, e.reason, e.record, e.field] for e in index.problems],
    }
    with atomic_file(path) as file:
        file.write(json.dumps(told, separators=(",", ":")).encode())


def _load(path: Path, stamp: tuple[int, int, int], file: str) -> ShardIndex | None:
    """The index that was saved, unless it is of another file or is none."""
    try:
        told = json.loads(path.read_bytes())
        if told["flamingo_blocks_index"] != VERSION:
            return None
        index = ShardIndex(
            told["size_bytes"], told["mtime_ns"], told["max_member_bytes"], tuple(told["keys"]),
            array("Q", told["starts"]), tuple(told["suffixes"]), array("L", told["suffix_ids"]),
            array("Q", told["offsets"]), array("Q", told["sizes"]),
            tuple(RecordError(p[0], reason=p[1], file=file, record=p[2], field=p[3]) for p in told["problems"]),
        )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError, OverflowError, AssertionError, RecursionError):
        return None
    same = (index.size_bytes, index.mtime_ns, index.max_member_bytes) == stamp
    return index if same and _is_sound(index) else None


def _is_sound(index: ShardIndex) -> bool:
    """Every place that it names is in the file."""
    starts, number = index.starts, len(index.offsets)
    return (
        len(starts) == len(index.keys) + 1
        and starts[0] == 0
        and starts[-1] == number == len(index.sizes) == len(index.suffix_ids)
        and all(starts[k] < starts[k + 1] for k in range(len(index.keys)))
        and all(0 <= k < len(index.suffixes) for k in index.suffix_ids)
        and all(index.offsets[k] + index.sizes[k] <= index.size_bytes for k in range(number))
    )
