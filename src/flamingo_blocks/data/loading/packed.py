"""A value and its tensors as one piece of shared memory, so that a batch crosses processes in one message."""

import io
import pickle
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_ALIGNED = 64  # bytes; of every dtype a multiple


@dataclass(frozen=True)
class Packed:
    """What `pack` makes.

    Args:
        head: The pickled value, in which tensors are places in `memory`.
        memory: The bytes of all tensors, in shared memory; None when there is no tensor.
    """

    head: bytes
    memory: Tensor | None


def pack(value: Any) -> Packed:
    """Copy all tensors of a value into one piece of shared memory.

    Torch sends each tensor through a socket of its own, some 25 for a batch; this is one. Tensors must be dense and on
    the CPU. Tensors that share memory share it no more.

    Args:
        value: Anything that can be pickled.
    """
    stream, tensors = io.BytesIO(), _Tensors()
    pickler = pickle.Pickler(stream, protocol=pickle.HIGHEST_PROTOCOL)
    pickler.persistent_id = tensors.place_of  # type: ignore[method-assign]
    pickler.dump(value)
    if not tensors.size:
        return Packed(stream.getvalue(), None)
    memory = torch.empty(tensors.size, dtype=torch.uint8).share_memory_()  # type: ignore[no-untyped-call]
    for start, tensor in tensors.found:
        memory[start : start + tensor.nbytes] = tensor.contiguous().reshape(-1).view(torch.uint8)
    return Packed(stream.getvalue(), memory)


def unpack(packed: Packed) -> Any:
    """The value again; its tensors are views of the shared memory, which lives as long as one of them."""
    unpickler = pickle.Unpickler(io.BytesIO(packed.head))  # noqa: S301 - from a worker of ours
    unpickler.persistent_load = lambda place: _view(packed.memory, *place)  # type: ignore[method-assign]
    return unpickler.load()


class _Tensors:
    """The tensors met on the way, and where each will lie."""

    def __init__(self) -> None:
        self.found: list[tuple[int, Tensor]] = []
        self.size = 0

    def place_of(self, value: Any) -> tuple[int, torch.dtype, tuple[int, ...]] | None:
        if type(value) is not Tensor or value.layout != torch.strided or value.device.type != "cpu":
            return None
        tensor, start = value.detach(), self.size
        if tensor.nbytes:
            self.found.append((start, tensor))
            self.size += -(-tensor.nbytes // _ALIGNED) * _ALIGNED
        return start, tensor.dtype, tuple(tensor.shape)


def _view(memory: Tensor | None, start: int, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    size = dtype.itemsize * torch.Size(shape).numel()
    if memory is None or not size:
        return torch.empty(shape, dtype=dtype)
    return memory[start : start + size].view(dtype).view(shape)
