"""A file that is there whole or not at all."""

import hashlib
import os
import secrets
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

UNFINISHED = ".unfinished-"  # how a name begins until its file is whole


@dataclass(frozen=True)
class WrittenFile:
    """What was written.

    Args:
        records: Samples or rows.
        size_bytes: Of the file.
        sha256: Of its bytes, in hexadecimal digits.

    Example:
        >>> from pathlib import Path
        >>> from flamingo_blocks.data import InterleavedDocument
        >>> from flamingo_blocks.data.records import write_documents_parquet
        >>> written = write_documents_parquet("a.parquet", [InterleavedDocument.from_parts(["a cat"])])
        >>> written.records, written.size_bytes == Path("a.parquet").stat().st_size, len(written.sha256)
        (1, True, 64)
    """

    records: int
    size_bytes: int
    sha256: str


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to, under another name in the same folder, that takes its name when all is on the disk.

    Args:
        path: The name it takes. What stood there before stays if anything goes wrong.

    Example:
        >>> with atomic_file(Path("a.bin")) as file:
        ...     _ = file.write(b"abc")
        >>> Path("a.bin").read_bytes()
        b'abc'
    """
    unfinished = path.with_name(f"{UNFINISHED}{secrets.token_hex(8)}-{path.name[:200]}")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def written_together(folder: Path) -> Iterator[Path]:
    """A folder to write several files to, which take their names in another only when all of them are on the disk.

    Files of those names are replaced, one by one, and others stay. Ctrl-C and `SIGTERM` wait until all have taken their
    names. A name that cannot be taken, such as that of a folder, and a crash at that moment leave some files of each
    kind; those that are there are whole.

    Args:
        folder: Where they are to stand.

    Example:
        >>> Path("results").mkdir()
        >>> with written_together(Path("results")) as beside:
        ...     _ = (beside / "a.txt").write_text("a")
        >>> [path.name for path in Path("results").iterdir()]
        ['a.txt']
    """
    beside = folder / f"{UNFINISHED}{secrets.token_hex(8)}"
    beside.mkdir()
    try:
        yield beside
        paths = sorted(path for path in beside.rglob("*") if path.is_file())
        for path in paths:
            _sync_file(path)
        with _undisturbed():
            for path in paths:
                place = folder / path.relative_to(beside)
                place.parent.mkdir(parents=True, exist_ok=True)
                path.replace(place)
            for parent in {folder, *((folder / path.relative_to(beside)).parent for path in paths)}:
                sync_folder(parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Have Ctrl-C and `SIGTERM` wait for the end of what takes milliseconds."""
    came: list[int] = []
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no other is disturbed
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in before.items() if handler is not None}
    for number in before:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed have left of files, and of files that belong together, in a folder.

    Args:
        folder: Where no other process writes.
    """
    for path in list(folder.iterdir()):
        if path.name.startswith(UNFINISHED):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _sync_file(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """The new name is on the disk as well, where the system can say so of a folder."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    except OSError:  # a file system that cannot
        pass
    finally:
        os.close(handle)


class HashingFile:
    """Writes to a file and keeps the number and the sha256 of the bytes.

    Args:
        file: Where they go.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash, self.size_bytes = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        """Write bytes, or what has some.

        Args:
            data: The bytes.
        """
        self._hash.update(data)
        number = self._file.write(data)
        self.size_bytes += number
        return number

    @property
    def sha256(self) -> str:
        """Of all bytes so far."""
        return self._hash.hexdigest()
