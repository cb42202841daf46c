"""What a checkpoint is made of: written last, read first."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._version import __version__
from flamingo_blocks.data.atomic_file import atomic_file
from flamingo_blocks.errors import CheckpointError

FORMAT_VERSION = 1
MANIFEST = "manifest.json"


class DamagedError(CheckpointError):
    """A checkpoint is not as it was written, so that an older one may stand in for it."""


@dataclass(frozen=True)
class FileRecord:
    """Size and sha256 of a file."""

    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> "FileRecord":
        """Read a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
            return cls(file.tell(), digest.hexdigest())


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What stands in `manifest.json`.

    Args:
        step: Updates that were made.
        processes: How many wrote it.
        metrics: Of the model at this step.
        frozen: What was beside the trained tensors, see `frozen_parts`.
        optimizer: See `OptimizerParts`; None where none was saved.
        files: All others of the folder.
        versions: Of what wrote it.
    """

    step: int
    processes: int
    metrics: dict[str, float]
    frozen: dict[str, str | None]
    optimizer: dict[str, Any] | None
    files: dict[str, FileRecord]
    versions: dict[str, str]


def versions() -> dict[str, str]:
    """Of this library and torch."""
    return {"flamingo_blocks": __version__, "torch": str(torch.__version__)}


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder whose other files are on the disk.

    Args:
        folder: The checkpoint.
        manifest: What stands in it.
    """
    with atomic_file(folder / MANIFEST) as file:
        file.write(_render(asdict(manifest)).encode())


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a checkpoint; the other files are left unread.

    Args:
        folder: The checkpoint.

    Raises:
        DamagedError: If it is missing or not as it was written.
        CheckpointError: If a newer version of this library wrote it.
    """
    path = folder / MANIFEST
    try:
        return _parse(path.read_text(), path)
    except CheckpointError:
        raise
    except FileNotFoundError:
        raise DamagedError(f"{path} is missing: the checkpoint is not whole") from None
    except Exception as error:
        raise DamagedError(f"{path} is damaged: {type(error).__name__}: {error}") from error


def _parse(text: str, path: Path) -> Manifest:
    values = json.loads(text)
    version = values.pop("format_version")
    del values["sha256"]
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format version {version}, this library reads up to {FORMAT_VERSION}; it was written by "
            f"flamingo_blocks {values.get('versions', {}).get('flamingo_blocks')}, this is {__version__}"
        )
    if _render(values) != text:
        raise DamagedError(f"{path} is damaged: it is not as it was written")
    files = {name: FileRecord(**record) for name, record in values.pop("files").items()}
    return Manifest(**values, files=files)


def check_sizes(folder: Path, manifest: Manifest) -> None:
    """Whether all files are there, as long as they were.

    Args:
        folder: The checkpoint.
        manifest: Its manifest.

    Raises:
        DamagedError: If one is not; the message names it.
    """
    for name, record in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise DamagedError(f"{path} is missing: the checkpoint is not whole")
        if path.stat().st_size != record.size_bytes:
            raise DamagedError(f"{path} has {path.stat().st_size} bytes, wanted {record.size_bytes}: it was truncated")


def check_contents(folder: Path, files: Iterable[tuple[str, FileRecord]]) -> None:
    """Read files, and compare them with what was written.

    Args:
        folder: The checkpoint.
        files: Names and what they were.

    Raises:
        DamagedError: If one differs; the message names it.
    """
    for name, record in files:
        if (found := FileRecord.of(folder / name)) != record:
            raise DamagedError(
                f"{folder / name} is damaged: its sha256 is {found.sha256[:16]}..., written was {record.sha256[:16]}..."
            )


def _render(values: Mapping[str, Any]) -> str:
    """The text of a manifest: one way to write it, with its own hash inside, so that each bit of it counts."""
    values = {"format_version": FORMAT_VERSION, **values}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return json.dumps({**values, "sha256": digest}, sort_keys=True, indent=2) + "\n"
