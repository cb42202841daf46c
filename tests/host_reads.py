"""A guard against code that waits for the device: on the CPU, where it costs nothing, it is found all the same."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE = "flamingo_blocks"
PASSED = {"torch", "jaxtyping", "beartype"}  # who stands between the library and an operation
READS = {
    *("_local_scalar_dense", "is_nonzero", "equal"),  # a value, or a truth, as Python has it
    *("nonzero", "nonzero_numpy", "argwhere", "masked_select", "bincount"),  # a size that depends on values
    *("_unique", "_unique2", "unique_consecutive", "unique_dim", "unique_dim_consecutive"),
}
# Operations that read with some arguments and not with others.
READ_WITH: dict[str, Callable[[Any, Any], bool]] = {
    "index": lambda args, _: _has_mask(args[1]),
    "index_put": lambda args, _: _has_mask(args[1]) and not _fills(args[2]),
    "index_put_": lambda args, _: _has_mask(args[1]) and not _fills(args[2]),
    "_index_put_impl_": lambda args, _: _has_mask(args[1]) and not _fills(args[2]),
    "repeat_interleave": lambda _, kwargs: kwargs.get("output_size") is None,
}
# Methods that read memory past all operations.
METHODS = {Tensor.tolist: "tolist", Tensor.numpy: "numpy", Tensor.cpu: "cpu"}
# Where the library reads on purpose, what is on the CPU: "module.function", and how.
ALLOWED = {
    "flamingo_blocks.ops._host_reads.on_host": "tolist",  # asserts that it is on the CPU
    "flamingo_blocks.ops.attention._packed.query_lengths": "tolist",  # the host's own copy of the starts
    "flamingo_blocks.ops.linear_cross_entropy._counting_rows": "masked_select",  # of labels on the CPU alone
    "flamingo_blocks.ops.linear_cross_entropy._check_labels": "masked_select tolist",  # of those labels
    "flamingo_blocks.vision.encode_frames._existing": "tolist",  # flags on the CPU
}


class NoHostReads(TorchDispatchMode):
    """Fails on an operation that reads a tensor's values into Python, or makes a size of them, where the library asks.

    What a foreign model reads inside its own code is its own business: the innermost frame outside torch decides.
    """

    def __enter__(self) -> Self:
        self.methods = _NoMethods(self.found)
        self.methods.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.methods.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if (name := _reading(func.name(), args, kwargs)) and (place := _place(name)):
            self.found(func.name(), place)
        return func(*args, **kwargs)

    def found(self, what: str, place: str) -> None:
        """What happens at a read."""
        raise AssertionError(f"{what} reads values in {place}")


class HostReads(NoHostReads):
    """Keeps where the library reads, in `places`, and lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.places: list[str] = []

    def found(self, what: str, place: str) -> None:
        """Note it down."""
        self.places.append(place)


class _NoMethods(TorchFunctionMode):
    """Finds methods that no operation stands for."""

    def __init__(self, found: Callable[[str, str], None]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if (name := METHODS.get(func)) and (place := _place(name)):
            self.found(f"Tensor.{name}", place)
        return func(*args, **(kwargs or {}))


def _reading(name: str, args: Any, kwargs: Any) -> str | None:
    """The operation's name, if it reads."""
    operation = name.removeprefix("aten::").split(".")[0]
    reads = operation in READS or (operation in READ_WITH and READ_WITH[operation](args, kwargs))
    return operation if reads else None


def _has_mask(indices: Any) -> bool:
    return any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _fills(value: Tensor) -> bool:
    """One number under a mask is written without asking where: torch makes it a `masked_fill`."""
    return value.ndim == 0


def _package(frame: FrameType) -> str:
    return frame.f_globals.get("__name__", "").split(".")[0]


def _place(name: str) -> str | None:
    """Where the library asks, if it is the library, and has no leave to."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_globals is globals() or _package(frame) in PASSED):
        frame = frame.f_back
    if frame is None:
        return None
    where = f"{frame.f_globals['__name__']}.{frame.f_code.co_name}"
    if _package(frame) != PACKAGE or name in ALLOWED.get(where, "").split():
        return None
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
