"""One save: from what is to be kept to a folder that is whole."""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.optim import Optimizer

from flamingo_blocks.data.atomic_file import atomic_file, sync_folder
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints.manifest import FileRecord, Manifest, versions, write_manifest
from flamingo_blocks.training.checkpoints.optimizer_parts import OptimizerParts
from flamingo_blocks.training.checkpoints.processes import Processes
from flamingo_blocks.training.checkpoints.step_folders import (
    UNFINISHED,
    Retention,
    folder_of,
    remove,
    remove_unfinished,
    whole_steps,
)
from flamingo_blocks.training.checkpoints.tensor_files import write_tensors
from flamingo_blocks.training.checkpoints.trained_tensors import trained_tensors

_log = logging.getLogger(__name__)

STATE, CONFIG = "state.json", "config.json"
MODEL = "model."  # how the keys of its tensors begin
_ROOM = 1.05  # of the bytes of the tensors, and a megabyte for all else
_MEGABYTE = 1_000_000
_PIECE = 2**15 - 1  # elements; torch copies as many in one thread


@dataclass(frozen=True)
class Content:
    """What a save keeps.

    Args:
        tensors: By key, the same keys in all processes.
        state: Of JSON's types.
        config: Of JSON's types.
        manifest: All but the files.
    """

    tensors: Mapping[str, Tensor]
    state: Any
    config: Any
    manifest: Manifest

    def staged(self) -> "Content":
        """The same, in the memory of the processor, out of reach of the next update."""
        others: Any = {key: tensor for key, tensor in self.tensors.items() if not _is_plain(tensor)}
        others = BlockingAsyncStager().stage(others) if others else {}
        return replace(
            self, tensors={key: others[key] if key in others else _copy(self.tensors[key]) for key in self.tensors}
        )

    @property
    def size_bytes(self) -> int:
        """Of the tensors, all processes together."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())


def _is_plain(tensor: Tensor) -> bool:
    ours = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return ours and tensor.device.type == "cpu" and tensor.is_contiguous()


@torch.no_grad()
def _copy(tensor: Tensor) -> Tensor:
    """A copy that this thread makes alone, piece by piece.

    Torch spreads a large copy over its threads and waits for each of them. Where other work is on the processors that
    takes a slice of the system's time a tensor, and a pause of a tenth of a second became one of a second and more.
    """
    copy = torch.empty_like(tensor, requires_grad=False)
    torch._foreach_copy_(torch.split(copy.view(-1), _PIECE), torch.split(tensor.detach().view(-1), _PIECE))
    return copy


def make_content(
    step: int, model: nn.Module, optimizer: Optimizer | None, about: Mapping[str, Any], **written: Any
) -> Content:
    """What a save keeps of model, optimiser, and what is told about them.

    Args:
        step: Updates that were made.
        model: The model.
        optimizer: Over its trained parameters, or none.
        about: `state`, `config` and `metrics`.
        **written: The fields of the manifest that say how and beside what it is written.

    Raises:
        ValueError: If one of them is not of JSON's types, the step is negative, or the optimiser is not the model's.
    """
    if step < 0:
        raise ValueError(f"step is {step}, wanted 0 or more")
    tensors = {MODEL + name: tensor for name, tensor in trained_tensors(model).items()}
    described = None
    if optimizer is not None:
        moments, described = OptimizerParts(optimizer, model).taken_apart()
        tensors |= moments
    state, config, metrics = (in_json(value or {}, name) for name, value in about.items())
    manifest = Manifest(step=step, metrics=metrics, optimizer=described, files={}, versions=versions(), **written)
    return Content(tensors, state, config, manifest)


def in_json(value: Mapping[str, Any], argument: str) -> Any:
    """A mapping as JSON gives it back.

    Args:
        value: The mapping.
        argument: Its name, for errors.

    Raises:
        ValueError: If JSON cannot keep it, or turns keys into strings.

    Example:
        >>> in_json({"betas": (0.9, 0.95)}, "config")
        {'betas': [0.9, 0.95]}
    """
    _refuse_other_keys(value, argument)
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{argument} is {value!r:.200}, wanted values of JSON's types: {error}") from error


def _refuse_other_keys(value: Any, argument: str) -> None:
    if isinstance(value, Mapping):
        if strange := [key for key in value if not isinstance(key, str)]:
            raise ValueError(f"{argument} has the keys {strange[:5]}, wanted strings, which is all that JSON keeps")
        for inner in value.values():
            _refuse_other_keys(inner, argument)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_other_keys(inner, argument)


def begin(root: Path, content: Content) -> None:
    """Make the unfinished folder of a save, in one process.

    Args:
        root: Where the checkpoints are.
        content: What is to be kept.

    Raises:
        CheckpointError: If the disk has too little room.
    """
    root.mkdir(parents=True, exist_ok=True)
    remove_unfinished(root)
    wanted = int(_ROOM * content.size_bytes) + _MEGABYTE
    if (free := shutil.disk_usage(root).free) < wanted:
        raise CheckpointError(f"the disk has {free} bytes free, wanted {wanted}: make room, or keep fewer checkpoints")
    _unfinished(root, content.manifest.step).mkdir()


def write(root: Path, content: Content, retention: Retention, processes: Processes) -> None:
    """Write a checkpoint into its unfinished folder, give it its name, and remove those that are outdated.

    Args:
        root: Where the checkpoints are.
        content: What is kept.
        retention: Which others stay.
        processes: All that take part.

    Raises:
        CheckpointError: In all processes, if it fails in one of them.
    """
    step = content.manifest.step
    what, folder = f"{folder_of(root, step)} was not saved", _unfinished(root, step)
    files = write_tensors(folder, content.tensors, processes, what=what)
    processes.first(what, lambda: _finish(root, content, files))
    processes.first(what, lambda: _remove_outdated(root, retention))  # and all wait until it has its name


def _finish(root: Path, content: Content, files: dict[str, FileRecord]) -> None:
    folder, final = _unfinished(root, content.manifest.step), folder_of(root, content.manifest.step)
    if missing := [name for name, record in files.items() if not _has_size(folder / name, record)]:
        raise CheckpointError(f"{missing[:5]} are not there for the first process: wanted a folder that all share")
    for name, value in ((STATE, content.state), (CONFIG, content.config)):
        with atomic_file(folder / name) as file:
            file.write((json.dumps(value, indent=2) + "\n").encode())
        files[name] = FileRecord.of(folder / name)
    write_manifest(folder, replace(content.manifest, files=files))
    sync_folder(folder)
    if final.exists():
        raise CheckpointError(f"{final} is there already: it is never overwritten")
    folder.replace(final)
    sync_folder(root)


def _has_size(path: Path, record: FileRecord) -> bool:
    return path.is_file() and path.stat().st_size == record.size_bytes


def _remove_outdated(root: Path, retention: Retention) -> None:
    for step in retention.outdated(whole_steps(root)):
        try:
            remove(root, step)
        except OSError as error:  # the new one is whole, and that is what counts
            _log.warning("step %d of %s is outdated and could not be removed: %s", step, root, error)


def _unfinished(root: Path, step: int) -> Path:
    folder = folder_of(root, step)
    return folder.with_name(folder.name + UNFINISHED)
