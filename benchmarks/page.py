"""The generated part of the page `benchmarks`: tables and plots, made from the committed result files alone."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from benchmarks import plots
from benchmarks.report import COLUMNS, PEAK_NOISE_BYTES, bar_told, describe, is_busy, losses, ours_of, rows
from benchmarks.results import RESULTS, Run, read

HERE = Path(__file__).parent
TABLES = HERE / "results" / "tables.md"
PLOTS = HERE.parent / "docs" / "assets" / "benchmarks"
REASONS = HERE / "reasons.toml"
CAPTIONS = {
    "time": "Time against items",
    "saved": "Bytes saved for the backward pass, against items",
    "peak": "Peak of one call above what stood before it, against items",
    "roofline": "Roofline: useful work of every case under the measured limits of the machine",
}


PEER = "open_flamingo"
BESIDE = {
    "attention": "attention/forward*",
    "block": "block/*",
    "resampler": "resampler/*",
    "decode step": "decode/*",
    "training step": "train/step/*",
}


@dataclass(frozen=True)
class Reason:
    """Why a case is lost: patterns, as of file names, of the case, the device and the words of the loss; the reason."""

    case: str
    why: str
    device: str = "*"
    what: str = "*"


def reasons(path: Path = REASONS) -> list[Reason]:
    """The reasons that were written down, in the order of the file; the first that fits a loss is its reason."""
    return [Reason(**entry) for entry in tomllib.loads(path.read_text()).get("reason", [])] if path.is_file() else []


def why(known: list[Reason], *, case: str, device: str, what: str) -> str:
    """The reason of a loss, or that there is none yet."""
    for reason in known:
        patterns = ((case, reason.case), (device, reason.device), (what, reason.what))
        if all(fnmatchcase(text, pattern) for text, pattern in patterns):
            return reason.why
    return "not looked into yet"


def published(folder: Path = RESULTS) -> list[Run]:
    """The runs of the whole suite, of the newest version that has some, GPUs first."""
    found: dict[tuple[int, ...], list[Run]] = {}
    for path in sorted(folder.glob("*/all--*.json")):
        version = tuple(int(number) for number in re.findall(r"\d+", path.parent.name))
        found.setdefault(version, []).append(read(path))
    runs = found[max(found)] if found else []
    return sorted(runs, key=lambda run: (run.device != "cuda", run.machine.slug, run.dtype, -run.threads))


def tables(runs: list[Run], known: list[Reason], *, plots_folder: Path = PLOTS) -> str:
    """The markdown of some runs: what was not measured, then run by run its losses, plots, bars and all cases."""
    parts = ["<!-- made by `python -m benchmarks --page`; change what it is made from -->"]
    if not any(run.device == "cuda" for run in runs):
        parts.append("**On a GPU: not measured yet.** No result file of a GPU has been committed.")
    if not any(run.device == "cpu" for run in runs):
        parts.append("**On a CPU: not measured yet.** No result file of a CPU has been committed.")
    parts += _beside(runs)
    for run in runs:
        parts += _section(run, known, plots_folder)
    return "\n\n".join(parts) + "\n"


def _beside(runs: list[Run]) -> Iterator[str]:
    """The newest runs in a few rows each: what a peer takes over ours, smallest and largest of the cases."""
    newest = max((run.date for run in runs), default="")
    shown = [part for run in runs if run.date == newest for part in _short(run)]
    if shown:
        yield f"## Beside {PEER}"
        yield (
            f"What {PEER} takes over what ours takes: above 1 where ours is faster or leaner. "
            "Of peaks those count that are 1 MiB or more in both: what is smaller is the noise of a process."
        )
        yield from shown


def _short(run: Run) -> Iterator[str]:
    pairs = [(case.name, ours_of(case), one) for case in run.cases for one in case.contenders if one.name == PEER]
    pairs = [pair for pair in pairs if any(fnmatchcase(pair[0], pattern) for pattern in BESIDE.values())]
    table, slower = [], []
    for name, pattern in BESIDE.items():
        ratios = {case: one.ratio for case, _, one in pairs if fnmatchcase(case, pattern)}
        table += _range(f"{name}, time", ratios)
        slower += [f"`{case}` ({ratio:.3g}x)" for case, ratio in ratios.items() if ratio < 1]
    peaks = {
        case: one.peak_bytes / ours.peak_bytes
        for case, ours, one in pairs
        if one.peak_bytes and ours.peak_bytes and min(one.peak_bytes, ours.peak_bytes) >= PEAK_NOISE_BYTES
    }
    table += _range("all of these, peak memory", peaks)
    if table:
        busy = " (busy before the run, so times are hints)" if is_busy(run) else ""
        yield f"On {_named(run)}{busy}:"
        yield _markdown(("what", "cases", "smallest", "largest"), table)
        leaner = [f"`{case}` ({ratio:.3g}x)" for case, ratio in peaks.items() if ratio < 1]
        yield f"Slower in {', '.join(slower) or 'none of these'}; a higher peak in {', '.join(leaner) or 'none'}."


def _range(what: str, ratios: dict[str, float]) -> list[tuple[str, ...]]:
    ends = (f"{least_or_most(ratios.values()):.3g}x" for least_or_most in (min, max))
    return [(what, str(len(ratios)), *ends)] if ratios else []


def _named(run: Run) -> str:
    threads = "1 thread" if run.threads == 1 else f"{run.threads} threads"
    return f"{run.machine.gpu or run.machine.cpu}, {run.dtype}, {threads}"


def _section(run: Run, known: list[Reason], plots_folder: Path) -> Iterator[str]:
    yield f"## {_named(run)}"
    yield describe(run)
    lost = losses(run)
    yield "### Losses, the worst first"
    table = [(loss.case, loss.what, why(known, case=loss.case, device=run.device, what=loss.what)) for loss in lost]
    yield _markdown(("case", "what was lost", "why"), table) if table else "None: every bar reached, no peer ahead."
    for case in (case for case in run.cases if case.profile):
        yield f"Where the time of ours goes in `{case.name}`, whose bar was missed:"
        shares = [(f"{100 * one.share:.1f} %", f"{one.calls:.4g}", f"`{one.name}`") for one in case.profile]
        yield _markdown(("own time", "times a call", "operator"), shares)
    wrong = [(case.name, case.status, case.trouble or "") for case in run.cases if case.status != "ok"]
    if wrong:
        yield "### Cases without numbers"
        yield _markdown(("case", "state", "what happened"), wrong)
    for kind, caption in CAPTIONS.items():
        path = plots_folder / f"{plots.stem(run)}--{kind}.svg"
        if path.is_file():
            shown = f'--8<-- "docs/assets/benchmarks/{path.name}"'  # inside the page, so that it follows its colours
            yield f"<figure>\n{shown}\n<figcaption>{caption}.</figcaption>\n</figure>"
    bars = [(case.name, bar_told(bar)) for case in run.cases for bar in case.bars if bar.passed is not False]
    if bars:
        yield "### Bars reached, or not judged"
        yield _markdown(("case", "bar"), bars)
    for suite in dict.fromkeys(case.suite for case in run.cases):
        cases = [case for case in run.cases if case.suite == suite and case.status == "ok"]
        if cases:
            yield f"### All cases of `{suite}`"
            yield _markdown(COLUMNS, [row for case in cases for row in rows(replace(case, missing={}))])
            left_out = {f"`{name}`: {reason}" for case in cases for name, reason in case.missing.items()}
            if left_out:
                yield f"Not run here: {'; '.join(sorted(left_out))}."


def _markdown(head: tuple[str, ...], table: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *table]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def publish(results: Path = RESULTS, tables_file: Path = TABLES, plots_folder: Path = PLOTS) -> Path:
    """Draw the plots of the published runs and write their tables; plots of runs that are gone are removed.

    Args:
        results: Folder of the result files.
        tables_file: The markdown that the page shows.
        plots_folder: Folder of the plots.

    Returns:
        The markdown file.
    """
    runs = published(results)
    drawn = {path for run in runs for path in plots.draw(run, plots_folder).values()}
    for old in set(plots_folder.glob("*.svg")) - drawn:
        old.unlink()
    tables_file.parent.mkdir(parents=True, exist_ok=True)
    tables_file.write_text(tables(runs, reasons(), plots_folder=plots_folder))
    return tables_file
