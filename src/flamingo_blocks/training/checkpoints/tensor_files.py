"""Tensors, sharded or not, in the files of `torch.distributed.checkpoint`."""

import pickle
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner, DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.training.checkpoints.manifest import FileRecord
from flamingo_blocks.training.checkpoints.processes import Processes

LAYOUT = ".metadata"  # where each piece of each tensor stands
# All that a layout is made of; it is a pickle, which must not import what somebody wrote into it.
_KNOWN = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta",
        "TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
}  # fmt: skip


class _Writer(FileSystemWriter):
    """Torch's, whose files are the same for the same tensors: no random name, no path of the machine."""

    def storage_meta(self) -> None:
        return None


def write_tensors(
    folder: Path, tensors: Mapping[str, Tensor], processes: Processes, *, what: str
) -> dict[str, FileRecord]:
    """Write tensors, each process its own shards; of what all of them hold, each writes a part.

    The calls of planner and writer are those of `torch.distributed.checkpoint.save`. That function itself would warn
    in a run of one process, and its errors are no `Exception`.

    Args:
        folder: One that is there and that all processes see.
        tensors: The same keys in all processes.
        processes: All that take part.
        what: What errors begin with.

    Returns:
        The files of all processes, each on the disk.

    Raises:
        CheckpointError: In all processes, if one of them fails.
    """
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    writer = _Writer(folder)

    def plan_own() -> Any:
        planner.set_up_planner(dict(tensors), storage_meta=None, is_coordinator=processes.is_first)
        writer.set_up_storage_writer(processes.is_first)
        return writer.prepare_local_plan(planner.create_local_plan())

    def write() -> Any:
        plan = planner.finish_plan(shared[processes.rank])
        results = writer.write_data(plan, planner).wait() if plan.items else []
        names = {result.storage_data.relative_path for result in results}
        return results, {name: FileRecord.of(folder / name) for name in sorted(names)}

    plans = processes.everyone(what, plan_own)
    shared, metadata = processes.first(what, lambda: _share(planner, writer, plans))
    written = processes.everyone(what, write)

    def finish() -> FileRecord:
        writer.finish(metadata, [results for results, _ in written])
        return FileRecord.of(folder / LAYOUT)

    layout = processes.first(what, finish)
    return {LAYOUT: layout, **{name: record for _, records in written for name, record in records.items()}}


def _share(planner: DefaultSavePlanner, writer: FileSystemWriter, plans: list[Any]) -> tuple[list[Any], Metadata]:
    shared, metadata = planner.create_global_plan(plans)
    return writer.prepare_global_plan(shared), metadata


def read_layout(folder: Path, files: Collection[str]) -> Metadata:
    """What tensors a folder holds, and where.

    Args:
        folder: Where `write_tensors` wrote.
        files: The files that may be read.

    Raises:
        CheckpointError: If it names a class that no layout has, or another file.
    """
    with (folder / LAYOUT).open("rb") as file:
        metadata = _Unpickler(file).load()
    places = {place.relative_path for place in metadata.storage_data.values()}
    if unknown := sorted(places - set(files)):
        raise CheckpointError(f"{folder / LAYOUT} names the files {unknown[:5]}, wanted of {sorted(files)}")
    found: Metadata = metadata
    return found


def read_tensors(folder: Path, layout: Metadata, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors, each process its own shards, in whatever number of shards they were written.

    Args:
        folder: Where `write_tensors` wrote.
        layout: What `read_layout` gave.
        tensors: Some of its keys, with tensors of the same shapes; they are written to.
    """
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    reader = FileSystemReader(folder)
    planner.set_up_planner(dict(tensors), layout, is_coordinator=True)
    reader.set_up_storage_reader(layout, is_coordinator=True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    reader.read_data(planner.finish_plan(plan), planner).wait()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        is_dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_dtype or name in _KNOWN.get(module, ()):
            return super().find_class(module, name)
        raise CheckpointError(f"{LAYOUT} names {module}.{name}, which no layout has: it is not torch's")
