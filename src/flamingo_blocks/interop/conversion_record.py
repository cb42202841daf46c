"""What a converted folder remembers of the checkpoint that it was made of, for the way back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.checkpoint_files import ForeignCheckpoint, TensorFacts, check_file_name

RECORD, KEPT = "foreign.json", "foreign.safetensors"
_KEPT_KEY = "kept_{}"  # names of tensors may hold what a header does not like
_DTYPES = {str(kind).removeprefix("torch."): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)}


@dataclass(frozen=True)
class ConversionRecord:
    """Where a model came from.

    Args:
        family: The family of the checkpoint.
        options: The options it was loaded with.
        leave_out: What was left out.
        like: Names, shapes, dtypes, shards and nesting of the checkpoint; it can read what our model has no place for.

    Example:
        >>> from flamingo_blocks.interop import open_checkpoint
        >>> like = open_checkpoint({"perceiver.latents": torch.zeros(2, 3)})
        >>> record = ConversionRecord(family="open_flamingo", options={"every": 2}, leave_out=(), like=like)
        >>> record.family, record.like.shapes
        ('open_flamingo', {'perceiver.latents': (2, 3)})
    """

    family: str
    options: dict[str, Any]
    leave_out: tuple[str, ...]
    like: ForeignCheckpoint


def write_record(
    folder: Path,
    opened: ForeignCheckpoint,
    *,
    family: str,
    options: Mapping[str, Any],
    leave_out: Sequence[str],
    kept: Sequence[str],
) -> None:
    """Write the record, and the tensors that our model has no place for, beside a saved model.

    Args:
        folder: Of the saved model.
        opened: The checkpoint.
        family: Its family.
        options: What it was loaded with.
        leave_out: Likewise.
        kept: Plain names of the tensors to keep.

    Example:
        >>> from flamingo_blocks.interop import open_checkpoint
        >>> Path("model").mkdir()
        >>> opened = open_checkpoint({"perceiver.latents": torch.zeros(2, 3), "lm.head": torch.ones(4)})
        >>> write_record(Path("model"), opened, family="open_flamingo", options={}, leave_out=(), kept=["lm.head"])
        >>> sorted(file.name for file in Path("model").iterdir())
        ['foreign.json', 'foreign.safetensors']
        >>> read_record(Path("model")).like.read("lm.head")  # what was kept can be read
        tensor([1., 1., 1., 1.])
    """
    facts = {
        plain: {"name": found.name, "shape": found.shape, "dtype": str(found.dtype).removeprefix("torch."),
                "shard": found.shard}
        for plain, found in opened.tensors.items()
    }  # fmt: skip
    record = {"family": family, "options": dict(options), "leave_out": list(leave_out), "nested": opened.nested,
              "headers": opened.headers, "index": opened.index, "kept": list(kept), "tensors": facts}  # fmt: skip
    if kept:
        safetensors = require("safetensors.torch", used_by="write_record", extra="hf")
        tensors = {_KEPT_KEY.format(n): opened.read(name).clone().contiguous() for n, name in enumerate(kept)}
        safetensors.save_file(tensors, folder / KEPT)
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n")


def read_record(folder: Path) -> ConversionRecord | None:
    """The record in a folder, if there is one.

    Raises:
        CheckpointError: If it is damaged, or names files that no checkpoint has.

    Example:
        >>> from flamingo_blocks.interop import open_checkpoint
        >>> Path("model").mkdir()
        >>> read_record(Path("model")) is None  # a model of our own making
        True
        >>> opened = open_checkpoint({"perceiver.latents": torch.zeros(2, 3)})
        >>> write_record(Path("model"), opened, family="open_flamingo", options={"every": 2}, leave_out=(), kept=())
        >>> found = read_record(Path("model"))
        >>> found.family, found.options, found.like.shapes
        ('open_flamingo', {'every': 2}, {'perceiver.latents': (2, 3)})
    """
    path = folder / RECORD
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text())
        tensors = {
            plain: TensorFacts(
                facts["name"], tuple(facts["shape"]), _DTYPES[facts["dtype"]],
                facts["shard"] and check_file_name(facts["shard"]),
            )
            for plain, facts in found["tensors"].items()
        }  # fmt: skip
        kept = _Kept(folder / KEPT, {tensors[plain].name: n for n, plain in enumerate(found["kept"])})
        index = None if found["index"] is None else (check_file_name(found["index"][0], index=True), found["index"][1])
        like = ForeignCheckpoint(
            str(path), tensors, {facts.shard: kept for facts in tensors.values()}, found["nested"],
            headers=found["headers"], index=index,
        )  # fmt: skip
        return ConversionRecord(found["family"], found["options"], tuple(found["leave_out"]), like)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error


class _Kept:
    """The tensors kept, by their name in the checkpoint."""

    def __init__(self, path: Path, numbers: dict[str, int]) -> None:
        self.path, self.numbers = path, numbers

    def facts(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {}

    def read(self, name: str) -> Tensor:
        if name not in self.numbers or not self.path.is_file():
            raise CheckpointError(f"{name} was not kept in {self.path}")
        safetensors = require("safetensors", used_by="read_record", extra="hf")
        with safetensors.safe_open(self.path, framework="pt") as file:
            tensor: Tensor = file.get_tensor(_KEPT_KEY.format(self.numbers[name]))
        return tensor
