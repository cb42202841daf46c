"""Tensors written as another implementation would: one file, or the shards they came from; whole or not at all."""

import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flamingo_blocks._optional import require
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop.checkpoint_files import PICKLE_SUFFIXES, ForeignCheckpoint, check_file_name


def write_checkpoint(
    tensors: Mapping[str, Tensor], path: str | os.PathLike[str], *, like: ForeignCheckpoint | None = None
) -> None:
    """Write tensors to a file, or to a folder of shards.

    Args:
        tensors: What `export_foreign` gave.
        path: A new file ending in `.safetensors`, `.pt`, `.pth` or `.bin`; or a new folder, for shards as in `like`.
        like: The checkpoint that was loaded: its nesting, its shards and what stood in their headers are used again, so
            that a file of safetensors comes back byte for byte. A file of the other kind has a header of its own.

    Raises:
        CheckpointError: If `path` is there already or of another kind, cannot be written, `like` names files outside
            it, or a tensor is not in memory. Nothing is written then.

    Example:
        >>> import tempfile
        >>> from flamingo_blocks.interop import open_checkpoint
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_checkpoint({"latents": torch.zeros(2, 3)}, Path(folder) / "new.safetensors")
        ...     open_checkpoint(Path(folder) / "new.safetensors").shapes
        {'latents': (2, 3)}
    """
    target = Path(path)
    kinds = (".safetensors", *PICKLE_SUFFIXES)
    if target.suffix not in ("", *kinds):
        raise CheckpointError(f"{target} ends in {target.suffix!r}, wanted one of {', '.join(kinds)}, or a folder")
    if away := next((name for name, tensor in tensors.items() if tensor.is_meta), None):
        raise CheckpointError(f"{away} is not in memory (offloaded, or on the meta device), so it cannot be written")
    if target.suffix:
        with written_whole(target) as beside:
            _write_file(dict(tensors), beside, target.name, like, None if like is None else _only_shard(like))
        return
    shards = {check_file_name(name): part for name, part in _shards(tensors, like).items()}
    if like is not None and like.index is not None:
        check_file_name(like.index[0], index=True)
    with written_whole(target) as beside:
        beside.mkdir()
        for shard, part in shards.items():
            _write_file(part, beside / shard, shard, like, shard)
        if like is not None and like.index is not None:
            name, text = like.index
            (beside / name).write_text(text)


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path beside the target, which takes its name when all is written, and goes away on errors.

    Args:
        target: A file or folder that is not there yet.

    Raises:
        CheckpointError: If it is, or cannot be written (a full disk, a folder of someone else).

    Example:
        >>> with written_whole(Path("weights.txt")) as beside:
        ...     _ = beside.write_text("all of it")
        >>> Path("weights.txt").read_text()
        'all of it'
        >>> try:
        ...     with written_whole(Path("other.txt")) as beside:
        ...         _ = beside.write_text("half of")
        ...         raise KeyboardInterrupt
        ... except KeyboardInterrupt:
        ...     print(sorted(file.name for file in Path().iterdir()))
        ['weights.txt']
    """
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise CheckpointError(f"{target} is there already; name another, or take it away first")
    made = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True
        ) as name:
            yield Path(name) / target.name
            if target.is_dir():
                target.rmdir()
            (Path(name) / target.name).replace(target)
    except BaseException as error:
        for folder in made:  # the innermost first; what another process has put there stays
            with suppress(OSError):
                folder.rmdir()
        if isinstance(error, OSError):
            raise CheckpointError(f"{target} cannot be written: {error.strerror or error}") from error
        raise


def _shards(tensors: Mapping[str, Tensor], like: ForeignCheckpoint | None) -> dict[str, dict[str, Tensor]]:
    if like is None:
        return {"model.safetensors": dict(tensors)}
    shards: dict[str, dict[str, Tensor]] = {}
    for facts in like.tensors.values():
        shards.setdefault(facts.shard or "model.safetensors", {})[facts.name] = tensors[facts.name]
    return shards


def _only_shard(like: ForeignCheckpoint) -> str | None:
    shards = {facts.shard for facts in like.tensors.values()}
    return shards.pop() if len(shards) == 1 else None


def _write_file(
    tensors: dict[str, Tensor], path: Path, name: str, like: ForeignCheckpoint | None, shard: str | None
) -> None:
    # Each kind has headers of its own: versions of modules are no metadata of safetensors, nor the other way round.
    same_kind = bool(shard) and _is_safetensors(shard or "") == _is_safetensors(name)
    header = like.headers.get(shard) if like is not None and shard and same_kind else None
    try:
        if _is_safetensors(name):
            _save_safetensors(tensors, path, header if same_kind else {"format": "pt"})
        else:
            _save_pickle(tensors, path, header, None if like is None else like.nested)
    except (OSError, ImportError):
        raise
    except Exception as error:  # each library has a class of its own for a disk that is full
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise OSError(lines[0]) from error


def _is_safetensors(name: str) -> bool:
    return Path(name).suffix == ".safetensors"


def _save_safetensors(tensors: dict[str, Tensor], path: Path, metadata: Any) -> None:
    safetensors = require("safetensors.torch", used_by="write_checkpoint", extra="hf")
    seen: set[int] = set()
    safetensors.save_file({key: _alone(tensor, seen) for key, tensor in tensors.items()}, path, metadata=metadata)


def _save_pickle(tensors: dict[str, Tensor], path: Path, header: Any, nested: str | None) -> None:
    content: Any = tensors
    if isinstance(header, dict) and "versions" in header:  # a state dict of torch
        content = OrderedDict(tensors)
        content._metadata = OrderedDict(header["versions"])  # noqa: SLF001 - where torch has it
    torch.save(content if nested is None else {nested: content}, path)


def _alone(tensor: Tensor, seen: set[int]) -> Tensor:
    """In memory of its own: safetensors refuses tensors that share theirs."""
    tensor = tensor.contiguous()
    address = tensor.untyped_storage().data_ptr()
    if address in seen or tensor.untyped_storage().nbytes() != tensor.nbytes:
        tensor = tensor.clone()
    seen.add(tensor.untyped_storage().data_ptr())
    return tensor
