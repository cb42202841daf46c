"""A guard against code that waits for the device: on the CPU, where it costs nothing, it is found all the same."""

import sys
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

PACKAGE = "flamingo_blocks"
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal")


class NoHostReads(TorchDispatchMode):
    """Fails on an operation that reads a tensor's values into Python, where the library asked for it.

    What a foreign model reads inside its own code is its own business: the innermost frame outside torch decides.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().split(".")[0] in READS and (place := self._place()):
            raise AssertionError(f"{func.name()} reads values in {place}")
        return func(*args, **(kwargs or {}))

    @staticmethod
    def _place() -> str | None:
        frame = sys._getframe(2)
        while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in (
            "torch",
            "jaxtyping",
            "beartype",
        ):
            frame = frame.f_back
        if frame is None or frame.f_globals.get("__name__", "").split(".")[0] != PACKAGE:
            return None
        return f"{frame.f_code.co_filename}:{frame.f_lineno}"
