"""Where the files of a build are, and how they come there: whole, or not at all."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import IO

from flamingo_blocks.data.atomic_file import UNFINISHED, atomic_file, remove_unfinished, sync_folder
from flamingo_blocks.data.build.shard_result import ShardResult

_AT_WORK: set[Path] = set()  # folders of builds of this process
_THREADS = Lock()


@dataclass(frozen=True)
class BuildFolder:
    """The folder of one build.

    Args:
        root: The folder itself, which holds the output.
        suffix: How the files of the output end.
        config: Hash of the configuration of the build.

    Example:
        >>> BuildFolder(Path("out"), ".tar", "9f3b").file("00017").as_posix()
        'out/00017.tar'
    """

    root: Path
    suffix: str
    config: str

    @property
    def records(self) -> Path:
        """What the build remembers of itself, apart from its output."""
        return self.root / "_build"

    def file(self, shard: str) -> Path:
        """The output of a shard."""
        return self.root / f"{shard}{self.suffix}"

    def unfinished(self, shard: str, attempt: str) -> Path:
        """The output of a shard while it is written; no two attempts write the same."""
        return self.root / f"{UNFINISHED}{attempt}-{shard}{self.suffix}"

    def manifest(self, shard: str) -> Path:
        """What is known of a shard that is done."""
        return self.records / "shards" / f"{shard}.json"

    def quarantine(self, shard: str) -> Path:
        """The records of a shard that could not be processed."""
        return self.records / "quarantine" / f"{shard}.pickle"

    def create(self) -> None:
        """Make the folders."""
        for folder in (self.root, self.manifest("any").parent, self.quarantine("any").parent):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other builds out; the system itself lets go when the process ends, however it does.

        Raises:
            RuntimeError: If another build is at work here.
        """
        busy = f"another build is at work in {self.root}; wait, or take another folder"
        with _THREADS:
            if self.root in _AT_WORK:  # by another thread: the system's lock is one of whole processes
                raise RuntimeError(busy)
            _AT_WORK.add(self.root)
        try:
            with (self.records / "lock").open("wb") as lock:
                if not _locks(lock):
                    raise RuntimeError(busy)
                yield
        finally:
            _AT_WORK.discard(self.root)

    def has_results(self) -> bool:
        """Whether a shard is done here, under any configuration."""
        return any(self.manifest("any").parent.glob("*.json"))

    def forget(self) -> None:
        """Remove the output of what was built here, and all that is known of it."""
        for manifest in list(self.manifest("any").parent.glob("*.json")):
            with suppress(OSError, ValueError):
                (self.root / ShardResult.from_json(manifest.read_text(encoding="utf-8")).file).unlink(missing_ok=True)
            manifest.unlink(missing_ok=True)
        for record in list(self.quarantine("any").parent.glob("*.pickle")):
            record.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove what killed attempts left behind."""
        for folder in (self.root, self.records, self.manifest("any").parent, self.quarantine("any").parent):
            remove_unfinished(folder)

    def result(self, shard: str) -> ShardResult | None:
        """What is known of a shard, if it is done under this configuration and its file has the size that it had."""
        try:
            found = ShardResult.from_json(self.manifest(shard).read_text(encoding="utf-8"))
            size = self.file(shard).stat().st_size
        except (OSError, ValueError):  # not done, or a manifest that a broken disk left empty
            return None
        return found if (found.config, found.bytes) == (self.config, size) else None


def _locks(file: IO[bytes]) -> bool:
    """Whether this process has got hold of a file; the system lets go when the process ends."""
    if sys.platform == "win32":
        return True
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        # The lock of this process: one that belongs to the open file would live on in forked workers.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a file system that knows no locks
        pass
    return True


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old one or the new one, also after a crash of the machine."""
    with atomic_file(path) as file:
        file.write(content)


def put_in_place(unfinished: Path, path: Path) -> None:
    """Give a finished file its name, in the same folder; its bytes are on the disk before its name is."""
    with unfinished.open("rb+") as file:
        os.fsync(file.fileno())
    unfinished.replace(path)
    sync_folder(path.parent)


def file_sha256(path: Path) -> str:
    """The hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
