"""What a call keeps for the backward pass, and how far its memory rises above what stood before it."""

import gc
import multiprocessing
import os
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Contender

Provider = Callable[..., list[Case]]  # `benchmarks.cases.all_cases`, or another importable function like it

PREPARE_SECONDS = 120
CHILD_SECONDS = 60
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


def _measure(contender: Contender, threads: int, sender: Connection) -> None:
    torch.set_num_threads(threads)
    contender.fresh(0)
    contender.run()  # what a library sets up once is not the call's
    contender.fresh(1)
    gc.collect()
    sender.send((contender.name, _peak_of_process(contender.run)))


def _prepare_and_fork(
    provider: Provider, device: str, dtype: str, case: str, names: Sequence[str], threads: int, sender: Connection
) -> None:
    """Prepare a case once, and measure each contender in a process of its own, forked before anything ran."""
    torch.set_num_threads(1)  # a pool of threads does not live through a fork, so none is started before
    torch.manual_seed(0)
    chosen = next(one for one in provider(device=device, dtype=dtype) if one.name == case)
    ready = {contender.name: contender for contender in chosen.prepare()}
    gc.collect()
    gc.freeze()  # else each process would look at, and so copy, every object that was imported
    fork = multiprocessing.get_context("fork")
    for name in names:
        process = fork.Process(target=_measure, args=(ready[name], threads, sender))
        process.start()
        process.join(CHILD_SECONDS)
        process.kill()
        process.join()
    sender.send(None)


def _server(provider: Provider) -> Any:
    """A server of processes that has imported the cases and what they have loaded so far, and has run nothing."""
    context = multiprocessing.get_context("forkserver")
    loaded = [name for name in sys.modules if name.startswith("transformers.models.")]
    context.set_forkserver_preload(["benchmarks.__main__", provider.__module__, *sorted(loaded)])
    for variable, value in MALLOC.items():
        os.environ.setdefault(variable, value)  # read by the C library when the server starts
    return context


def peak_bytes(
    provider: Provider, *, device: str, dtype: str, case: str, contenders: Sequence[str], threads: int
) -> dict[str, int]:
    """How far the resident size of a process of its own rises in one call of a contender, after a first call.

    Args:
        provider: The importable function that lists the cases.
        device: As for the case.
        dtype: As for the case.
        case: Name of the case.
        contenders: Names of the contenders.
        threads: Threads of torch.

    Returns:
        The bytes by contender, without those whose process failed; nothing where such processes cannot be had.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return {}
    context = _server(provider)
    receiver, sender = context.Pipe(duplex=False)
    asked = (provider, device, dtype, case, contenders, threads, sender)
    process = context.Process(target=_prepare_and_fork, args=asked)
    process.start()
    sender.close()
    found: dict[str, int] = {}
    try:
        while receiver.poll(PREPARE_SECONDS + CHILD_SECONDS):
            answer = receiver.recv()
            if answer is None:
                break
            found[answer[0]] = answer[1]
    except EOFError:  # the process ended without a word
        pass
    finally:
        process.kill()
        process.join()
        receiver.close()
    return found
