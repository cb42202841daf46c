"""`python -m benchmarks`: measure what this machine can, report it, and keep it as a file."""

import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import environment, limits, memory, page, plots, results
from benchmarks.case import SUITES, Case
from benchmarks.compare import compare
from benchmarks.profiling import profile
from benchmarks.report import terminal
from benchmarks.results import DEFAULT_DTYPES, RESULTS, Run
from benchmarks.runner import Options, run_case

MINUTES = 9.0  # that the cases share; what they need at least makes a run without `--full` a quarter of an hour
MOST_SECONDS = 2.0
LEAST_SECONDS = 0.2


def arguments(argv: Sequence[str] | None) -> Namespace:
    """What was asked for; a slip ends the program with a line that says what is possible."""
    parser = ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--suite", nargs="+", default=[], metavar="NAME", help=f"only these of {', '.join(SUITES)}")
    parser.add_argument("--case", default="", metavar="PART", help="only cases whose name contains this")
    parser.add_argument("--device", help="cpu or cuda; default: a GPU where there is one")
    parser.add_argument("--dtype", help="float32 (default on a CPU), bfloat16 (default on a GPU), float16")
    parser.add_argument("--threads", type=int, help="threads of torch; default: the physical cores")
    parser.add_argument("--seconds", type=float, help="of timing a case; default: a share of a quarter of an hour")
    parser.add_argument("--repeats", type=int, help="rounds of every case, instead of seconds")
    parser.add_argument("--full", action="store_true", help="also the cases that take long")
    parser.add_argument("--no-peaks", action="store_true", help="leave out the peak memory, which needs processes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of result files")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an older result file to hold this run against")
    parser.add_argument("--list", action="store_true", help="list the cases and measure nothing")
    parser.add_argument("--profile", action="store_true", help="profile one call of ours a case and measure nothing")
    parser.add_argument(
        "--page", action="store_true", help="make the documentation page from the result files and stop"
    )
    asked = parser.parse_args(argv)
    unknown = [suite for suite in asked.suite if suite not in SUITES]
    if unknown:
        parser.error(f"unknown suite {', '.join(unknown)}; there are {', '.join(SUITES)}")
    asked.device = asked.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if asked.device not in DEFAULT_DTYPES:
        parser.error(f"unknown device {asked.device!r}; there are {', '.join(DEFAULT_DTYPES)}")
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here; leave --device out for the CPU")
    asked.dtype = asked.dtype or DEFAULT_DTYPES[asked.device]
    if asked.dtype not in {"float32", "bfloat16", "float16"}:
        parser.error(f"unknown dtype {asked.dtype!r}; there are float32, bfloat16, float16")
    for name in ("threads", "repeats", "seconds"):
        if getattr(asked, name) is not None and getattr(asked, name) <= 0:
            parser.error(f"--{name} must be above 0, got {getattr(asked, name)}")
    asked.threads = asked.threads or environment.physical_cores()
    return asked


def chosen(asked: Namespace, provider: memory.Provider) -> list[Case]:
    """The cases of a run, in the order of the registry."""
    every = provider(device=asked.device, dtype=asked.dtype)
    suites = [case for case in every if (not asked.suite or case.suite in asked.suite) and asked.case in case.name]
    return [case for case in suites if asked.full or asked.device == "cuda" or case.quick]


def measure(asked: Namespace, cases: Sequence[Case], provider: memory.Provider) -> Run:
    """Run the cases one by one under a progress bar."""
    from tqdm import tqdm  # noqa: PLC0415 (a page can be made without it)

    load = environment.load()
    torch.set_num_threads(asked.threads)
    found = limits.measure(asked.device, asked.dtype)
    measured, end = [], time.monotonic() + 60 * MINUTES
    seen = sys.stderr.isatty()
    bar = tqdm(cases, unit="case", file=sys.stderr, ncols=None if seen else 120, mininterval=0.1 if seen else 5.0)
    for done, case in enumerate(bar):
        bar.set_postfix_str(case.name, refresh=seen)
        share = (end - time.monotonic()) / (len(cases) - done) / 2  # the other half: preparation, checks, memory
        seconds = asked.seconds or (MOST_SECONDS if asked.full else min(MOST_SECONDS, max(LEAST_SECONDS, share)))
        options = Options(
            limits=found,
            threads=asked.threads,
            seconds=seconds,
            repeats=asked.repeats,
            seed=asked.seed,
            peaks=not asked.no_peaks,
        )
        measured.append(run_case(case, options, provider))
    return Run(
        schema_version=1,
        date=environment.today(),
        machine=environment.describe_machine(asked.device),
        versions=environment.describe_versions(),
        device=asked.device,
        dtype=asked.dtype,
        threads=asked.threads,
        seed=asked.seed,
        full=asked.full,
        suites=sorted({*asked.suite}) if not asked.case else [f"{'+'.join(asked.suite)}-{asked.case}".strip("-")],
        load=load,
        limits=found,
        cases=measured,
    )


def listing(cases: Sequence[Case]) -> str:
    """The cases, one a line."""
    lines = []
    for case in cases:
        sizes = " ".join(f"{axis}={size}" for axis, size in case.sizes.items())
        lines.append(f"{case.name}  {case.dtype}  {sizes}{'' if case.quick else '  (--full)'}")
    return "\n".join([*lines, f"{len(cases)} cases"])


def registry() -> memory.Provider:
    """The function that lists the cases of this suite."""
    from benchmarks.cases import all_cases  # noqa: PLC0415 (loads the other implementations, which takes seconds)

    return all_cases


def main(argv: Sequence[str] | None = None, *, provider: memory.Provider | None = None) -> int:
    """Run the suite from a command line.

    Args:
        argv: Arguments; those of the process if `None`.
        provider: The importable function that lists the cases; `benchmarks.cases.all_cases` if `None`.

    Returns:
        0, or 1 when a case is wrong or failed.
    """
    asked = arguments(argv)
    if asked.page:
        print(f"wrote {page.publish()}")
        return 0
    try:
        old = results.read(asked.compare) if asked.compare else None
    except ValueError as error:
        print(f"error: --compare: {error}", file=sys.stderr)
        return 2
    provider = provider or registry()
    cases = chosen(asked, provider)
    if not cases:
        print("error: no case fits; `--list` shows them, `--full` adds the large ones", file=sys.stderr)
        return 2
    if asked.list:
        print(listing(cases))
        return 0
    if asked.profile:
        for case in cases:
            print(profile(case, threads=asked.threads))
        return 0
    run = measure(asked, cases, provider)
    print(terminal(run))
    if old is not None:
        print(f"\n{compare(run, old)}")
    print(f"\nwrote {results.write(run, asked.out)}")
    if asked.out == RESULTS and not run.suites:
        print(f"wrote {page.publish()}, which the page `benchmarks` shows")
    else:
        print("\n".join(f"drew {path}" for path in plots.draw(run, asked.out / "plots").values()))
    return int(any(case.status != "ok" for case in run.cases))


if __name__ == "__main__":
    sys.exit(main())
