"""Samples to a tar file, the same bytes each time."""

import tarfile
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path

from flamingo_blocks.data._tar_files.sample import WRITTEN_KEY, WRITTEN_SUFFIX, Sample
from flamingo_blocks.data.atomic_file import HashingFile, WrittenFile, atomic_file

BLOCK = tarfile.BLOCKSIZE


def write_shard(path: str | PathLike[str], samples: Iterable[Sample]) -> WrittenFile:
    """Write samples to a tar file that webdataset reads too.

    The same samples give the same bytes, on any day and for any user. The file takes its name when it is whole and on
    the disk; if anything goes wrong, what stood there before stays.

    Args:
        path: The file, `.tar` by custom. Its folder must be there.
        samples: In order. A key is 1 to 200 of `A-Z a-z 0-9 _ -`, and no other sample has it: webdataset takes all
            before the first dot as the key and cannot tell apart what shares one. The names of members are small
            letters, since webdataset makes them so.

    Returns:
        The number of samples, and the size and sha256 of the file.

    Raises:
        ValueError: If a key or the name of a member is none of these, or a key comes twice, or a sample is empty.

    Example:
        >>> written = write_shard("00000.tar", [Sample("cat", {"txt": b"A cat."}), Sample("dog", {"txt": b"A dog."})])
        >>> written.records, written.size_bytes
        (2, 10240)
    """
    seen: set[str] = set()
    with atomic_file(Path(path)) as plain:
        file = HashingFile(plain)
        for sample in samples:
            _check(sample, seen)
            seen.add(sample.key)
            for suffix, data in sample.members.items():
                for piece in _member(f"{sample.key}.{suffix}", data):
                    file.write(piece)
        file.write(bytes(2 * BLOCK))
        file.write(bytes(-file.size_bytes % tarfile.RECORDSIZE))
    return WrittenFile(len(seen), file.size_bytes, file.sha256)


def _member(name: str, data: bytes) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)  # no owner, no time, mode 644
    header.size = len(data)
    yield header.tobuf(tarfile.GNU_FORMAT)
    yield data
    yield bytes(-len(data) % BLOCK)


def _check(sample: Sample, seen: set[str]) -> None:
    if WRITTEN_KEY.fullmatch(sample.key) is None:
        raise ValueError(f"a sample has the key {sample.key!r}, wanted 1 to 200 of A-Z a-z 0-9 _ - and no dot")
    if sample.key in seen:
        raise ValueError(f"two samples have the key {sample.key!r}; give each a key of its own")
    if not sample.members:
        raise ValueError(f"the sample {sample.key!r} has no members, so a shard cannot hold it")
    for suffix in sample.members:
        if WRITTEN_SUFFIX.fullmatch(suffix) is None:
            raise ValueError(
                f"the sample {sample.key!r} has a member {suffix!r}, wanted a name such as 'json' or '0.jpg', "
                "of a-z 0-9 _ - between dots"
            )
