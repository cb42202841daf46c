"""Checkpoints as they are found: folders, files, shards; their names and shapes before any tensor is read."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.unreadable_files import why_unreadable
from flamingo_blocks.interop.wrapped_names import plain_name

Checkpoint = str | Path | Mapping[str, Tensor]

PICKLE_SUFFIXES = (".pt", ".pth", ".bin")
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_STANDARD = ("model", "pytorch_model")  # what transformers calls the only file of a model
_BESIDE = re.compile(r"foreign\.safetensors|(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?)\.(bin|pt|pth)")
_NESTED = ("model_state_dict", "state_dict", "model")
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip


def check_file_name(name: str, *, index: bool = False) -> str:
    """A name that a checkpoint's files can have: in its folder, and of a known kind. Records may not name others.

    Args:
        name: The name.
        index: It is that of the list of shards.

    Returns:
        The name.

    Raises:
        CheckpointError: If a file of that name would be elsewhere, or is of another kind.

    Example:
        >>> check_file_name("model-00001-of-00002.safetensors")
        'model-00001-of-00002.safetensors'
    """
    kinds = (".safetensors", *PICKLE_SUFFIXES)
    known = name in INDEXES if index else Path(name).suffix in kinds
    if not known or Path(name).name != name or "\\" in name:
        wanted = " or ".join(INDEXES) if index else f"a plain name that ends in {', '.join(kinds)}"
        raise CheckpointError(f"a checkpoint has no file {name!r}, wanted {wanted}")
    return name


@dataclass(frozen=True)
class TensorFacts:
    """What is known of a tensor before it is read.

    Args:
        name: Its name in the file, wrappers' prefixes included.
        shape: Its shape.
        dtype: Its dtype.
        shard: Name of the file that holds it; empty for a checkpoint in memory.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    shard: str = ""


@runtime_checkable
class Shard(Protocol):
    """One open file."""

    def facts(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Shapes and dtypes by the names in the file."""
        ...

    def read(self, name: str) -> Tensor:
        """One tensor."""
        ...


class ForeignCheckpoint:
    """A checkpoint that is open: names without wrappers, shapes, and tensors one at a time; made by `open_checkpoint`.

    Args:
        where: What errors call it.
        tensors: Facts by plain name.
        files: The files, by name of shard.
        nested: Key of the dictionary inside a pickle file that holds the tensors, if they were not at its top.
        headers: What else stands in the head of each file: metadata of safetensors, versions of a torch state dict.
        index: Name and text of the file that lists the shards.

    Example:
        >>> checkpoint = open_checkpoint({"module.perceiver.latents": torch.zeros(2, 3)})
        >>> checkpoint.shapes
        {'perceiver.latents': (2, 3)}
    """

    def __init__(
        self,
        where: str,
        tensors: dict[str, TensorFacts],
        files: Mapping[str, "Path | Shard"],
        nested: str | None = None,
        *,
        headers: dict[str, Any] | None = None,
        index: tuple[str, str] | None = None,
    ) -> None:
        self.where, self.tensors, self.nested = where, tensors, nested
        self.headers: dict[str, Any] = headers or {}
        self.index = index
        self._files = files
        self._open: tuple[str, Shard] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes by plain name, in the order of the files."""
        return {name: facts.shape for name, facts in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        """One tensor, by its plain name; one file is open at a time.

        Args:
            name: A key of `tensors`.

        Raises:
            KeyError: If there is none of that name.
            CheckpointError: If its file cannot be read any more.
        """
        facts = self.tensors[name]
        if self._open is None or self._open[0] != facts.shard:
            self._open = None  # the old shard goes before the new one comes
            found = self._files[facts.shard]
            self._open = (facts.shard, _open_shard(found)[0] if isinstance(found, Path) else found)
        return self._open[1].read(facts.name)


def open_checkpoint(checkpoint: Checkpoint) -> ForeignCheckpoint:
    """Open a checkpoint without reading its tensors.

    Args:
        checkpoint: A file (`.safetensors`, or `.pt`, `.pth`, `.bin` of plain tensors), a folder with one such file,
            with one called `model` or `pytorch_model`, or with shards and their `index.json`, or tensors by name.
            Prefixes that wrappers put before names are taken off, and tensors may be nested under `model_state_dict`,
            `state_dict` or `model`.

    Returns:
        The open checkpoint.

    Raises:
        CheckpointError: If there is no such file, it is damaged, or it holds no tensors.
        MissingDependencyError: If safetensors is needed and not installed.

    Example:
        >>> list(open_checkpoint({"_orig_mod.norm.weight": torch.zeros(3)}).shapes)
        ['norm.weight']
    """
    if isinstance(checkpoint, Mapping):
        shard = _InMemory(checkpoint)
        return ForeignCheckpoint("the checkpoint", _collect({"": shard}), {"": shard})
    path = Path(checkpoint)
    if not path.exists():
        raise CheckpointError(f"there is no {path}")
    files, index, places = _files_of(path) if path.is_dir() else ({path.name: path}, None, None)
    tensors: dict[str, TensorFacts] = {}
    headers: dict[str, Any] = {}
    nested = None
    for name, file in files.items():
        opened, nested = _open_shard(file)
        headers[name] = opened.header
        for plain, facts in _collect({name: opened}).items():
            if plain in tensors:
                raise CheckpointError(f"{plain} is in two files of {path}: {tensors[plain].shard} and {name}")
            tensors[plain] = facts
        del opened
    if not tensors:
        raise CheckpointError(f"{path} holds no tensors")
    if index is not None and places is not None:
        _check_index(index, places, tensors)
    text = None if index is None else (index.name, index.read_text())
    return ForeignCheckpoint(str(path), tensors, files, nested, headers=headers, index=text)


class _InMemory:
    def __init__(self, tensors: Mapping[str, Any]) -> None:
        versions = getattr(tensors, "_metadata", None)
        self.header = {"versions": versions} if isinstance(versions, dict) else None
        self.tensors = {name: tensor for name, tensor in tensors.items() if isinstance(tensor, Tensor)}
        if len(self.tensors) != len(tensors):
            other = next(name for name in tensors if name not in self.tensors)
            raise CheckpointError(
                f"{other!r} of the checkpoint is of type {type(tensors[other]).__name__}, wanted tensors by name"
            )

    def facts(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        return self.tensors[name]


class _Safetensors:
    def __init__(self, path: Path) -> None:
        safetensors = require("safetensors", used_by="open_checkpoint", extra="hf")
        self._path, self._file = path, safetensors.safe_open(path, framework="pt")
        self.header: dict[str, str] | None = self._file.metadata()

    def facts(self) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        slices = {name: self._file.get_slice(name) for name in self._file.offset_keys()}
        kinds = {name: found.get_dtype() for name, found in slices.items()}
        if strange := next((name for name, kind in kinds.items() if kind not in _DTYPES), None):
            raise CheckpointError(
                f"{strange} in {self._path} is of dtype {kinds[strange]}, which is not read; known are "
                f"{', '.join(_DTYPES)}"
            )
        return {name: (tuple(found.get_shape()), _DTYPES[kinds[name]]) for name, found in slices.items()}

    def read(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


def _open_shard(path: Path) -> "tuple[_Safetensors | _InMemory, str | None]":
    try:
        return (_Safetensors(path), None) if path.suffix == ".safetensors" else _open_pickle(path)
    except (CheckpointError, ImportError):
        raise
    except Exception as error:  # each library has classes of its own for files that are no such files
        raise CheckpointError(why_unreadable(path, error)) from error


def _open_pickle(path: Path) -> tuple[_InMemory, str | None]:
    """Tensors of a pickle file, mapped into memory and not read, where its age allows it."""
    try:
        found = torch.load(path, weights_only=True, map_location="cpu", mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        found = torch.load(path, weights_only=True, map_location="cpu")  # a file of before torch 1.6
    key = next((key for key in _NESTED if isinstance(found, dict) and isinstance(found.get(key), dict)), None)
    found = found if key is None else found[key]
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{path} holds an object of type {type(found).__name__}, wanted tensors by name")
    return _InMemory(found), key


def _files_of(folder: Path) -> tuple[dict[str, Path], Path | None, dict[str, str] | None]:
    """The files of a folder, the index that lists them, and its list; or the only one; safetensors before pickles.

    What a training run saves beside a model is none; of several files the one with the name of a whole model counts.
    """
    for index, suffixes in zip(INDEXES, ((".safetensors",), PICKLE_SUFFIXES), strict=True):
        if (folder / index).is_file():
            places = _places_of_index(folder, folder / index)
            return {name: folder / name for name in sorted(set(places.values()))}, folder / index, places
        found = sorted(p for p in folder.iterdir() if p.suffix in suffixes and not _BESIDE.fullmatch(p.name))
        found = [path for path in found if path.stem in _STANDARD] or found
        if len(found) == 1:
            return {found[0].name: found[0]}, None, None
        if found:
            raise CheckpointError(
                f"{folder} holds {len(found)} checkpoints and no index: {', '.join(path.name for path in found[:5])}; "
                "name one of them"
            )
    raise CheckpointError(f"{folder} holds no checkpoint: no {', '.join(('.safetensors', *PICKLE_SUFFIXES))} file")


def _places_of_index(folder: Path, index: Path) -> dict[str, str]:
    try:
        places: dict[str, Any] = json.loads(index.read_text())["weight_map"]
        names = set(places.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{index} is damaged: no weight_map of names to files") from error
    if odd := next(((name, file) for name, file in places.items() if not isinstance(file, str)), None):
        raise CheckpointError(f"{index} is damaged: it puts {odd[0]} into {odd[1]!r}, wanted the name of a file")
    for name in sorted(names):
        if Path(name).name != name or not (folder / name).is_file():
            raise CheckpointError(f"{index} names the file {name!r}, which is not in the folder")
    return places


def _check_index(index: Path, places: Mapping[str, str], tensors: Mapping[str, TensorFacts]) -> None:
    """Each file holds what the index says, and no more: else it is of another checkpoint, or a tensor is lost."""
    held = {facts.name: facts.shard for facts in tensors.values()}
    for name, shard in places.items():
        if held.get(name) != shard:
            raise CheckpointError(f"{index} says that {name} is in {shard}, which does not hold it")
    if unlisted := next((name for name in held if name not in places), None):
        raise CheckpointError(f"{held[unlisted]} holds {unlisted}, which {index} does not list")


def _collect(shards: Mapping[str, Shard]) -> dict[str, TensorFacts]:
    tensors: dict[str, TensorFacts] = {}
    for shard, opened in shards.items():
        for name, (shape, dtype) in opened.facts().items():
            plain = plain_name(name)
            if plain in tensors:
                raise CheckpointError(f"{name} and {tensors[plain].name} are both {plain} without their prefixes")
            tensors[plain] = TensorFacts(name, shape, dtype, shard)
    return tensors
