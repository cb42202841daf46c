"""What a call keeps for the backward pass, and how far its memory rises above what stood before it."""

import gc
import multiprocessing
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Contender

Provider = Callable[..., list[Case]]  # `benchmarks.cases.all_cases`, or another importable function like it

CHILD_SECONDS = 180
_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
# Blocks beyond 64 KiB go back to the system when freed, so that the size of a child says what it holds.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}


@dataclass(frozen=True)
class Saved:
    """Bytes that a call holds for its backward pass.

    Args:
        activations: Storages that the call made itself; the most that were held at one time.
        given: Storages that were there before the call: parameters, buffers, inputs.
    """

    activations: int
    given: int


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _plain(value: object) -> bool:
    # `type`, not `isinstance`: lazy modules answer to `__class__` by importing what they stand for
    return issubclass(type(value), Tensor) and value.device.type in {"cpu", "cuda"} and value.layout == torch.strided


def _live_tensors() -> Iterator[tuple[int, Tensor]]:
    for value in gc.get_objects():
        if _plain(value):
            try:
                yield _storage(value), value
            except RuntimeError:  # tensors without memory: fake ones, functorch wrappers
                continue


def saved_for_backward(run: Callable[[], Any]) -> Saved:
    """Count the bytes that `run` saves for backward: unique storages, what was there before told apart.

    A storage is counted while the graph holds it, so a loss that goes forward and backward in chunks is told by its
    largest chunk. What an autograd function puts on its `ctx` past `save_for_backward` is not seen, and shows in the
    peak of `peak_bytes` only.

    Args:
        run: A call, which may run its backward pass itself.

    Returns:
        The bytes.
    """
    before = dict(_live_tensors())  # held until the end, so that no new storage takes the address of one of these
    holders: Counter[int] = Counter()
    given: dict[int, int] = {}
    now = most = 0

    class Held:
        def __init__(self, tensor: Tensor) -> None:
            nonlocal now, most
            self.tensor = tensor.detach()  # the tensor itself would keep its own graph alive
            self.key, self.size = _storage(tensor), tensor.untyped_storage().nbytes()
            if self.key in before:
                given[self.key] = self.size
                return
            if not holders[self.key]:
                now += self.size
            holders[self.key] += 1
            most = max(most, now)

        def __del__(self) -> None:
            nonlocal now
            if self.key in before:
                return
            holders[self.key] -= 1
            if not holders[self.key]:
                now -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        output = run()
    del output
    return Saved(activations=most, given=sum(given.values()))


def cuda_peak_bytes(run: Callable[[], Any]) -> int:
    """How far the allocated memory of the GPU rises in one call."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    output = run()
    torch.cuda.synchronize()
    del output
    return torch.cuda.max_memory_allocated() - before


def _status_bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def _peak_of_process(run: Callable[[], Any]) -> int:
    """How far the resident size of this process rises in one call; on Linux the mark is set back before the call."""
    try:
        _RESET.write_text("5")
        before = _status_bytes("VmRSS")
    except OSError:  # no such file, or not ours to write: the largest size so far, which may hide a small call
        unit = 1 if sys.platform == "darwin" else 1024
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        output = run()
        del output
        return max(0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit - before)
    output = run()
    del output
    return max(0, _status_bytes("VmHWM") - before)


def _measure(provider: Provider, device: str, dtype: str, case: str, contender: str, threads: int) -> int:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    chosen = next(one for one in provider(device=device, dtype=dtype) if one.name == case)
    ready: Contender = next(one for one in chosen.prepare() if one.name == contender)
    ready.fresh(0)
    ready.run()  # what a library sets up once is not the call's
    ready.fresh(1)
    gc.collect()
    return _peak_of_process(ready.run)


def _child(sender: Connection, *arguments: Any) -> None:
    with sender:
        sender.send(_measure(*arguments))


def peak_bytes(provider: Provider, *, device: str, dtype: str, case: str, contender: str, threads: int) -> int | None:
    """How far the resident size of a process of its own rises in one call of one contender, after a first call.

    The processes are forked from a server that has imported the cases and done nothing else.

    Args:
        provider: The importable function that lists the cases.
        device: As for the case.
        dtype: As for the case.
        case: Name of the case.
        contender: Name of the contender.
        threads: Threads of torch.

    Returns:
        The bytes, or `None` where the process failed, or where such a server cannot be had.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return None
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.__main__", provider.__module__])
    for variable, value in MALLOC.items():
        os.environ.setdefault(variable, value)  # read by the C library when the server starts
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, provider, device, dtype, case, contender, threads))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(CHILD_SECONDS) else None
    except EOFError:  # the process ended without a word
        return None
    finally:
        process.kill()
        process.join()
        receiver.close()
