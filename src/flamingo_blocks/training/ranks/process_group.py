"""The processes that torchrun started, as a group of torch."""

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import distributed

# The functions of these have the group of the moment they are loaded in as a default, and would hold it for ever.
_HOLD_THE_GROUP = ("torch.distributed.nn.functional", "torch.distributed.optim", "torch.distributed.fsdp")


def started_together() -> bool:
    """Whether torchrun started this process with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def process_group(backend: str, **options: Any) -> Iterator[None]:
    """A group of all processes for as long as the context lasts, and none of it afterwards.

    Threads of a group that something still holds are alive when Python ends, and may abort the process there.

    Args:
        backend: `gloo` or `nccl`.
        options: More of what `torch.distributed.init_process_group` takes, such as `timeout`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's, about itself
        for module in _HOLD_THE_GROUP:
            importlib.import_module(module)
    distributed.init_process_group(backend, **options)
    try:
        yield
    finally:
        distributed.destroy_process_group()
