"""A trained model, in the form in which it is used."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from flamingo_blocks.models import Flamingo
from flamingo_blocks.models.saving import split_tensors, write_saved
from flamingo_blocks.training.checkpoints.processes import Processes
from flamingo_blocks.training.checkpoints.trained_tensors import gathered_back


def export(model: nn.Module, folder: Path, frozen: Any, processes: Processes) -> None:
    """Write a Flamingo from its shards, gathered one tensor at a time into the first process's memory.

    Args:
        model: The model.
        folder: Made if it is missing.
        frozen: As in `Flamingo.save_pretrained`.
        processes: All that hold shards.

    Raises:
        ValueError: If the model is no Flamingo.
        CheckpointError: In all processes, if it fails in one of them.
    """
    what = f"{folder} was not exported"
    gathered: list[dict[str, Tensor]] = []

    if not isinstance(model, Flamingo):
        raise ValueError(f"model is a {type(model).__name__}, wanted a Flamingo")  # noqa: TRY004 - a value of ours

    def gather() -> None:
        gathered_back(model)
        for part in split_tensors(model):
            wholes = {name: _whole(tensor, processes) for name, tensor in part.items()}
            gathered.append({name: whole for name, whole in wholes.items() if whole is not None})

    processes.everyone(what, gather)
    processes.first(what, lambda: write_saved(model, folder, frozen, *gathered))


def _whole(tensor: Tensor, processes: Processes) -> Tensor | None:
    """The tensor in the first process, nothing in the others."""
    if isinstance(tensor, DTensor):
        tensor = tensor.full_tensor().cpu()
    return tensor if processes.is_first else None
