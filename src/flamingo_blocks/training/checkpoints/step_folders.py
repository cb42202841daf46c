"""The folders of a run's checkpoints: their names, which are whole, and which go."""

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flamingo_blocks.data.atomic_file import sync_folder
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints.manifest import DamagedError, Manifest, check_sizes, read_manifest

UNFINISHED, DAMAGED = ".tmp", ".damaged"
_PREFIX, _DIGITS = "step-", 8


@dataclass(frozen=True)
class Retention:
    """Which checkpoints stay: the newest, every n-th step, and the best.

    Args:
        last: How many of the newest.
        every: Steps that this number divides.
        metric: By which one is the best.
        best_is: Whether the lowest or the highest value of it is.
    """

    last: int
    every: int | None
    metric: str | None
    best_is: Literal["lowest", "highest"]

    def best(self, manifests: dict[int, Manifest]) -> int | None:
        """The step with the best value, the latest of several; None where none has a value."""
        values = {step: manifest.metrics.get(self.metric or "") for step, manifest in manifests.items()}
        sign = 1 if self.best_is == "highest" else -1
        known = {step: sign * value for step, value in values.items() if value is not None and not math.isnan(value)}
        return max(known, key=lambda step: (known[step], step), default=None)

    def outdated(self, manifests: dict[int, Manifest]) -> list[int]:
        """The steps that go."""
        newest = sorted(manifests)[-self.last :]
        every = [step for step in manifests if self.every is not None and step % self.every == 0]
        return sorted(manifests.keys() - {*newest, *every, self.best(manifests)})


def folder_of(root: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return root / f"{_PREFIX}{step:0{_DIGITS}}"


def all_steps(root: Path) -> list[int]:
    """The steps that have a folder of their own name, whole or not, from the first on."""
    names = [path.name.removeprefix(_PREFIX) for path in root.glob(f"{_PREFIX}*")] if root.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit() and len(name) >= _DIGITS)


def whole_steps(root: Path) -> dict[int, Manifest]:
    """The checkpoints whose manifest is whole and whose files are there, from the first on; nothing is hashed.

    Those that a newer version wrote are none of ours.
    """
    found = {}
    for step in all_steps(root):
        try:
            manifest = read_manifest(folder_of(root, step))
            check_sizes(folder_of(root, step), manifest)
        except CheckpointError:
            continue
        if manifest.step == step:
            found[step] = manifest
    return found


def read_whole(root: Path, step: int) -> Manifest:
    """The manifest of a checkpoint whose files are all there.

    Args:
        root: Where the checkpoints are.
        step: Which.

    Raises:
        DamagedError: If it is not whole.
        CheckpointError: If it is of a newer version.
    """
    folder = folder_of(root, step)
    manifest = read_manifest(folder)
    check_sizes(folder, manifest)
    if manifest.step != step:
        raise DamagedError(f"{folder} holds step {manifest.step}: it was renamed")
    return manifest


def remove_unfinished(root: Path) -> None:
    """Remove what a killed save, or a killed removal, has left."""
    for path in list(root.glob(f"{_PREFIX}*{UNFINISHED}")):
        shutil.rmtree(path)


def remove(root: Path, step: int) -> None:
    """Take a checkpoint away: its name first, so that nobody meets half of one."""
    folder = folder_of(root, step)
    going = folder.with_name(folder.name + UNFINISHED)
    folder.replace(going)
    sync_folder(root)
    shutil.rmtree(going)


def put_aside(root: Path, step: int) -> Path:
    """Give a damaged checkpoint a name that no step has; it is left for whoever wants to look at it."""
    folder = folder_of(root, step)
    number, aside = 1, folder.with_name(folder.name + DAMAGED)
    while aside.exists():
        number, aside = number + 1, folder.with_name(f"{folder.name}{DAMAGED}-{number}")
    folder.replace(aside)
    sync_folder(root)
    return aside
