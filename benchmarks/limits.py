"""What this machine can do at most: its matrix products and its copies, measured, and how near a call comes."""

import time
from collections.abc import Callable

import torch

from benchmarks.results import Limits
from benchmarks.timing import cpu_clock, cuda_clock

MATMUL_SIZES = {"cpu": (1024, 2048), "cuda": (4096, 8192)}
COPY_BYTES = {"cpu": 256 * 1024**2, "cuda": 1024**3}
LEAST_REPEATS = 3


def _best(run: Callable[[], object], device: str, seconds: float) -> float:
    """The shortest of many calls: a limit is what the machine can do, not what it does on average."""
    clock = cuda_clock() if device == "cuda" else cpu_clock()
    clock(run)
    best, start, repeats = float("inf"), time.perf_counter(), 0
    while repeats < LEAST_REPEATS or time.perf_counter() - start < seconds:
        best = min(best, clock(run))
        repeats += 1
    return best


def measure(device: str, dtype: str, *, seconds: float = 0.4) -> Limits:
    """Measure the peak of matrix products (square, out of place) and of copies (bytes read and bytes written)."""
    kind = getattr(torch, dtype)
    fastest = 0.0
    for size in MATMUL_SIZES[device]:
        left, right, product = (torch.randn(size, size, device=device).to(kind) for _ in range(3))
        took = _best(lambda a=left, b=right, out=product: torch.mm(a, b, out=out), device, seconds)
        fastest = max(fastest, 2 * size**3 / took)
    source = torch.ones(COPY_BYTES[device] // kind.itemsize, dtype=kind, device=device)
    target = torch.empty_like(source)
    took = _best(lambda: target.copy_(source), device, seconds)
    return Limits(matmul_flops_per_s=fastest, copy_bytes_per_s=2 * COPY_BYTES[device] / took)


def limit_s(limits: Limits, flops: int | None, moved: int | None) -> float | None:
    """The least seconds for this work: the arithmetic at the matmul peak, or the traffic at the copy bandwidth."""
    if flops is None and moved is None:
        return None
    return max((flops or 0) / limits.matmul_flops_per_s, (moved or 0) / limits.copy_bytes_per_s)
