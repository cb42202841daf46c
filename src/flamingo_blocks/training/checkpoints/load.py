"""One load: from a folder to model and optimiser, all of it or nothing."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.metadata import Metadata
from torch.optim import Optimizer

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints.loaded import Loaded
from flamingo_blocks.training.checkpoints.manifest import Manifest, versions
from flamingo_blocks.training.checkpoints.optimizer_parts import OptimizerParts, saved_keys
from flamingo_blocks.training.checkpoints.processes import Processes
from flamingo_blocks.training.checkpoints.save import CONFIG, MODEL, STATE
from flamingo_blocks.training.checkpoints.tensor_files import read_layout, read_tensors
from flamingo_blocks.training.checkpoints.trained_tensors import frozen_parts, trained_tensors

_SHOWN = 5


@dataclass(frozen=True)
class Filled:
    """What was read, beside what it is for: nothing has been changed yet."""

    model: dict[str, Tensor]
    values: dict[str, Tensor]
    parts: OptimizerParts | None
    manifest: Manifest
    state: Any
    config: Any

    def put(self, processes: Processes) -> Loaded:
        """Change model and optimiser, which cannot fail any more."""
        with torch.no_grad():
            for name, tensor in self.model.items():
                tensor.copy_(self.values[MODEL + name])
        differences = _differences(self.manifest, processes)
        if self.parts is not None and self.manifest.optimizer is not None:
            self.parts.put_together(self.manifest.optimizer, self.values)
            differences += self.parts.differences(self.manifest.optimizer)
        return Loaded(
            step=self.manifest.step, state=self.state, config=self.config, metrics=self.manifest.metrics,
            differences=tuple(differences),
        )  # fmt: skip


def read(folder: Path, manifest: Manifest, model: nn.Module, optimizer: Optimizer | None) -> Filled:
    """Read a checkpoint whose files are whole into tensors of its own, after comparing it with what it is for.

    Args:
        folder: The checkpoint.
        manifest: Its manifest.
        model: What it is for.
        optimizer: Likewise; None to leave what was saved of one.

    Raises:
        CheckpointError: If it does not fit; the message has everything that does not.
        ValueError: If the optimiser is not the model's.
    """
    layout = read_layout(folder, manifest.files)
    here = trained_tensors(model)
    parts = None if optimizer is None else OptimizerParts(optimizer, model)
    problems = _compare_tensors(here, layout, saved_keys(manifest.optimizer))
    problems += [] if parts is None else parts.compare(manifest.optimizer)
    if not problems and manifest.frozen["names"] is not None:
        problems += _compare_frozen(manifest.frozen, frozen_parts(model))
    if problems:
        raise CheckpointError(f"{folder} does not fit: {'; '.join(problems)}")
    values = {MODEL + name: torch.empty_like(tensor) for name, tensor in here.items()}
    if parts is not None and manifest.optimizer is not None:
        values |= parts.tensors_for(manifest.optimizer, layout)
    read_tensors(folder, layout, values)
    state, config = (json.loads((folder / name).read_text()) for name in (STATE, CONFIG))
    return Filled(here, values, parts, manifest, state, config)


def _compare_tensors(here: dict[str, Tensor], layout: Metadata, of_optimizer: set[str]) -> list[str]:
    """Names, shapes and dtypes of the model's tensors, both ways."""
    there: dict[str, Any] = {
        key.removeprefix(MODEL): kept for key, kept in layout.state_dict_metadata.items() if key not in of_optimizer
    }
    problems = []
    if missing := sorted(here.keys() - there.keys()):
        problems.append(f"it lacks {len(missing)} tensors that train here: {missing[:_SHOWN]}")
    if extra := sorted(there.keys() - here.keys()):
        problems.append(f"it has {len(extra)} tensors that do not train here: {extra[:_SHOWN]}")
    if lost := sorted(of_optimizer - layout.state_dict_metadata.keys()):
        problems.append(f"it lacks {len(lost)} tensors of the optimizer: {lost[:_SHOWN]}")
    for name in sorted(here.keys() & there.keys()):
        tensor, kept = here[name], there[name]
        for word, found, wanted in (
            ("shape", tuple(getattr(kept, "size", ())), tuple(tensor.shape)),
            ("dtype", getattr(getattr(kept, "properties", None), "dtype", None), tensor.dtype),
        ):
            if found != wanted:
                problems.append(f"{name} has {word} {found} in the checkpoint, {wanted} here")
    return problems


def _compare_frozen(there: dict[str, str | None], here: dict[str, str | None]) -> list[str]:
    words = {
        "names": "names, shapes or configs of what is frozen differ",
        "values": "weights of what is frozen differ",
    }
    return [
        f"{what} ({there[key]:.16}... in the checkpoint, {here[key]:.16}... here): wanted the language model and tower "
        "that it was trained with"
        for key, what in words.items()
        if there[key] is not None and here[key] is not None and there[key] != here[key]
    ]


def _differences(manifest: Manifest, processes: Processes) -> list[str]:
    pairs = {name: (manifest.versions.get(name), now) for name, now in versions().items()}
    pairs["processes"] = (str(manifest.processes), str(processes.number))
    return [f"{name}: was {was}, is {now}" for name, (was, now) in pairs.items() if was != now]
