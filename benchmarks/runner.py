"""One case from its preparation to its numbers: first right, then lean, then fast."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks import memory
from benchmarks.case import HALF, LIMIT, OURS, Bar, Case, Contender, is_peer
from benchmarks.limits import limit_s
from benchmarks.profiling import operators
from benchmarks.results import BarResult, CaseResult, ContenderResult, Limits, without_paths
from benchmarks.timing import WARM_UPS, Timings, time_contenders


@dataclass(frozen=True)
class Options:
    """How a case is measured: the seconds or the number of its rounds, threads, seed, and whether peaks are taken."""

    limits: Limits
    threads: int
    seconds: float = 2.0
    repeats: int | None = None
    seed: int = 0
    peaks: bool = True


def _told(error: Exception) -> str:
    return without_paths(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Ready:
    """The contenders that can run here, what a first call of each saved, how long those took, and who is missing."""

    contenders: list[Contender]
    saved: dict[str, memory.Saved]
    seconds: float
    missing: dict[str, str]


def _first_calls(contenders: Sequence[Contender], seed: int) -> Ready:
    """Call each once; another implementation that cannot run is left out, an error of ours is not hidden this way."""
    able, saved, missing = [], {}, {}
    start = time.perf_counter()
    for contender in contenders:
        if contender.missing is not None:
            missing[contender.name] = contender.missing
            continue
        try:
            contender.fresh(seed)
            saved[contender.name] = memory.saved_for_backward(contender.run)
        except Exception as error:  # whatever another implementation raises, it is left out with its words
            if not (is_peer(contender.name) or isinstance(error, torch.OutOfMemoryError)):
                raise
            missing[contender.name] = _told(error)
        else:
            able.append(contender)
    if OURS not in [contender.name for contender in able[:1]]:
        raise RuntimeError(f"{OURS} must be the first contender, and able to run; got {[one.name for one in able]}")
    return Ready(contenders=able, saved=saved, seconds=time.perf_counter() - start, missing=missing)


def run_case(case: Case, options: Options, provider: memory.Provider) -> CaseResult:
    """Measure a case. No error of a case leaves this function, and no number of a case that is wrong.

    Args:
        case: What to measure.
        options: How.
        provider: The importable function that lists the cases, for the processes that take the peaks.

    Returns:
        The numbers, or what went wrong.
    """
    empty = CaseResult(
        suite=case.suite,
        name=case.name,
        sizes=dict(case.sizes),
        device=case.device,
        dtype=case.dtype,
        status="failed",
        flops=case.flops,
        bytes=case.bytes,
    )
    try:
        torch.manual_seed(options.seed)
        ready = _first_calls(case.prepare(), options.seed)
        try:
            _check(case, ready.contenders, provider)
        except AssertionError as error:
            return replace(empty, status="wrong", trouble=_told(error), missing=ready.missing)
        results, bars = _measure(case, ready, options, provider)
        missed = any(bar.passed is False and bar.metric == "time" for bar in bars)
        shares = operators(ready.contenders[0], device=case.device, seed=options.seed) if missed else []
        return replace(empty, status="ok", contenders=results, missing=ready.missing, bars=bars, profile=shares)
    except Exception as error:  # noqa: BLE001 (one case must not lose the others; its words are in the result)
        return replace(empty, trouble=_told(error))
    finally:
        if case.device == "cuda":
            torch.cuda.empty_cache()


def _check(case: Case, contenders: list[Contender], provider: memory.Provider) -> None:
    """What runs in half precision is right in float32 first, where a wrong number cannot pass for a rounded one."""
    if case.dtype in HALF:
        names = [contender.name for contender in contenders]
        exact = next(one for one in provider(device=case.device, dtype="float32") if one.name == case.name)
        exact.check([one for one in exact.prepare() if one.name in names])
    case.check(contenders)


def _peaks(case: Case, contenders: Sequence[Contender], options: Options, provider: memory.Provider) -> dict[str, int]:
    if not options.peaks:
        return {}
    if case.device == "cuda":
        found = {}
        for contender in contenders:
            contender.fresh(options.seed)
            found[contender.name] = memory.cuda_peak_bytes(contender.run)
        return found
    return memory.peak_bytes(
        provider,
        device=case.device,
        dtype=case.dtype,
        case=case.name,
        contenders=[contender.name for contender in contenders],
        threads=options.threads,
    )


def _measure(
    case: Case, ready: Ready, options: Options, provider: memory.Provider
) -> tuple[list[ContenderResult], list[BarResult]]:
    contenders, saved = ready.contenders, ready.saved
    timings = time_contenders(
        contenders,
        device=case.device,
        seconds=options.seconds,
        repeats=options.repeats,
        seed=options.seed,
        warm_ups=WARM_UPS if ready.seconds < options.seconds else 1,
    )
    peaks = _peaks(case, contenders, options, provider)
    least = limit_s(options.limits, case.flops, case.bytes)
    results = []
    for contender in contenders:
        name = contender.name
        spread, ratio = timings.spread(name), timings.ratio(name, OURS)
        results.append(
            ContenderResult(
                name=name,
                repeats=len(timings.seconds[name]),
                median_s=spread.median,
                q1_s=spread.q1,
                q3_s=spread.q3,
                ratio=ratio.median,
                ratio_q1=ratio.q1,
                ratio_q3=ratio.q3,
                saved_bytes=saved[name].activations,
                given_bytes=saved[name].given,
                peak_bytes=peaks.get(name),
                limit_fraction=least / spread.median if least is not None and contender.same_work else None,
            )
        )
    return results, [judge(bar, results, timings, least) for bar in case.bar]


def judge(bar: Bar, results: Sequence[ContenderResult], timings: Timings, least_s: float | None) -> BarResult:
    """Hold ours against a bar; not judged where the other contender could not run or was not measured."""
    told = BarResult(
        what=bar.what,
        against=bar.against,
        kind=bar.kind,
        metric=bar.metric,
        ratio=bar.ratio,
        slack=bar.slack,
        value=None,
        passed=None,
    )
    found = {result.name: result for result in results}
    ours = found[OURS]
    if bar.against == LIMIT:
        share, beyond = (None, 0.0) if least_s is None else (ours.median_s / least_s, ours.median_s - least_s)
    elif bar.against not in found:
        share, beyond = None, 0.0
    elif bar.metric == "time":
        # of the rounds, not of the medians: what slowed a round slowed both
        share, beyond = 1 / found[bar.against].ratio, timings.difference(OURS, bar.against)
    else:
        mine, theirs = getattr(ours, bar.metric), getattr(found[bar.against], bar.metric)
        share, beyond = _share(mine, theirs)
    if share is None:
        return told
    allowed = bar.ratio if bar.kind == "at_most" else 1 / bar.ratio
    value = share if bar.kind == "at_most" else 1 / share if share else math.inf
    return replace(
        told,
        value=value if math.isfinite(value) else None,
        passed=share <= allowed or (bar.slack > 0 and beyond <= bar.slack),
    )


def _share(mine: int | None, theirs: int | None) -> tuple[float | None, float]:
    """Ours over theirs, and ours beyond theirs; nothing beside nothing is level."""
    if mine is None or theirs is None:
        return None, 0.0
    share = mine / theirs if theirs else math.inf if mine else 1.0
    return share, float(mine - theirs)
