"""The one timing function: contenders in turns, on new inputs each time, until there is enough to tell them apart."""

import gc
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.case import Contender

LEAST_ROUNDS = 5
LEAST_LONG_ROUNDS = 3  # where five would take several times what was asked for
MOST_ROUNDS = 1000
WARM_UPS = 2
CACHE_BYTES = 256 * 1024**2  # written between calls on a GPU, so that no call finds its inputs in the cache


@dataclass(frozen=True)
class Spread:
    """The median of some numbers, and the quartiles around it."""

    median: float
    q1: float
    q3: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """The spread of one number or more."""
        if len(numbers) == 1:
            return cls(median=numbers[0], q1=numbers[0], q3=numbers[0])
        q1, median, q3 = statistics.quantiles(numbers, n=4, method="inclusive")
        return cls(median=median, q1=q1, q3=q3)


@dataclass(frozen=True)
class Timings:
    """Seconds by contender; the k-th number of each was taken in the k-th round, so that rounds pair them."""

    seconds: dict[str, list[float]]

    def spread(self, name: str) -> Spread:
        """Median and quartiles of one contender."""
        return Spread.of(self.seconds[name])

    def ratio(self, name: str, over: str) -> Spread:
        """How many times longer `name` took than `over`, from the ratios of each round."""
        pairs = zip(self.seconds[name], self.seconds[over], strict=True)
        return Spread.of([one / other for one, other in pairs])

    def difference(self, name: str, over: str) -> float:
        """The median of how many seconds longer `name` took than `over` in a round."""
        pairs = zip(self.seconds[name], self.seconds[over], strict=True)
        return statistics.median(one - other for one, other in pairs)


def cpu_clock() -> Callable[[Callable[[], Any]], float]:
    """A function that runs a call and gives its seconds, by the wall."""

    def clock(run: Callable[[], Any]) -> float:
        start = time.perf_counter()
        output = run()
        stop = time.perf_counter()
        del output  # after the clock: what a caller would keep is not freed on its time
        return stop - start

    return clock


def cuda_clock() -> Callable[[Callable[[], Any]], float]:
    """A function that runs a call and gives its seconds, by device events, with the cache of the device emptied."""
    flush = torch.empty(CACHE_BYTES, dtype=torch.uint8, device="cuda")

    def clock(run: Callable[[], Any]) -> float:
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()  # nothing of the contender before is still running
        flush.zero_()  # also keeps the device busy while the first kernels are launched
        start.record()
        output = run()
        stop.record()
        stop.synchronize()
        del output
        return start.elapsed_time(stop) / 1000

    return clock


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the garbage collector out of the timings: what is alive now is set aside, the rest waits."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def time_contenders(
    contenders: Sequence[Contender],
    *,
    device: str,
    seconds: float = 2.0,
    repeats: int | None = None,
    seed: int = 0,
    warm_ups: int = WARM_UPS,
) -> Timings:
    """Time contenders in turns, each once a round, all on the same new inputs in a round.

    What disturbs the machine for a while disturbs all contenders alike, and the ratios of a round stay true. The order
    is drawn anew each round: a contender that always followed the same other would always find what that one left in
    the caches and in the allocator, and be timed with it.

    Args:
        contenders: What to time.
        device: `cpu` (wall clock) or `cuda` (device events, a cold cache).
        seconds: Rounds go on until this much time has passed, inputs included; at least five rounds, or three where
            these took twice the time already.
        repeats: Exactly this many rounds instead.
        seed: Of the first inputs, where every round adds one, and of the orders.
        warm_ups: Rounds that are thrown away first.

    Returns:
        The seconds of each call.
    """
    clock = cuda_clock() if device == "cuda" else cpu_clock()
    times: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    with quiet():
        for warm_up in range(warm_ups):
            for contender in contenders:
                contender.fresh(seed - 1 - warm_up)
                clock(contender.run)
        draw, start = random.Random(seed), time.perf_counter()  # noqa: S311 (no secret)
        for turn in range(repeats or MOST_ROUNDS):
            for contender in draw.sample(contenders, len(contenders)):
                contender.fresh(seed + turn)
                times[contender.name].append(clock(contender.run))
            gc.collect()
            if repeats is None and _enough(turn + 1, time.perf_counter() - start, seconds):
                break
    return Timings(seconds=times)


def _enough(rounds: int, passed: float, seconds: float) -> bool:
    return passed >= seconds if rounds >= LEAST_ROUNDS else rounds >= LEAST_LONG_ROUNDS and passed >= 2 * seconds
