"""A run in words: what was lost first, then every number; the same rows for the terminal and for the page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.case import OURS, is_peer
from benchmarks.results import BarResult, CaseResult, ContenderResult, OperatorShare, Run

# The statistics of one norm more or less are no loss; resident sizes differ a little from run to run.
SAVED_NOISE = 1.01
PEAK_NOISE = 1.05
PEAK_NOISE_BYTES = 1024**2
BUSY = 0.5  # of the cores were wanted by others before the run began
COLUMNS = ("case", "contender", "median", "quartiles", "time / ours", "saved", "peak", "of the limit")


@dataclass(frozen=True)
class Loss:
    """A case where a peer wins or a bar is missed; `share` is how far, 1.25 for a quarter."""

    case: str
    what: str
    share: float


def _scaled(number: float, units: Sequence[tuple[str, float]]) -> str:
    """A number with three digits, in the first unit that it fills, or the last."""
    unit, size = next(((unit, size) for unit, size in units if number >= size), units[-1])
    share = number / size
    return f"{share:.0f} {unit}" if share >= 999.5 else f"{share:.3g} {unit}"


def seconds_told(seconds: float) -> str:
    """Seconds in a unit that fits them."""
    return _scaled(seconds, (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)))


def bytes_told(number: int | None) -> str:
    """Bytes in a unit that fits them; `-` where they were not measured."""
    return "-" if number is None else _scaled(number, (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024), ("B", 1)))


def ratio_told(contender: ContenderResult) -> str:
    """Their time over ours; `~` where the quartiles do not tell the two apart."""
    if contender.name == OURS:
        return "1"
    mark = "~" if contender.ratio_q1 <= 1 <= contender.ratio_q3 else ""
    return f"{mark}{_times(contender.ratio)}"


def ours_of(case: CaseResult) -> ContenderResult:
    """Our numbers in a case that has numbers."""
    return next(contender for contender in case.contenders if contender.name == OURS)


def _times(number: float) -> str:
    return f"{number:.3g}x" if number < 999.5 else f"{number:.0f}x"


def _share(bar: BarResult) -> float:
    """By what factor a bar is missed, above 1; below it is cleared."""
    if not bar.value:
        return 1.0
    return bar.ratio / bar.value if bar.kind == "faster_by" else bar.value / bar.ratio


def bar_told(bar: BarResult) -> str:
    """A bar, what was reached, and by how much it falls short."""
    if bar.passed is None:
        return f"{bar.what}: not judged, {bar.against} has no such number here"
    if bar.value is None:
        return f"{bar.what}: {'reached' if bar.passed else 'missed'}, one of the two is nothing"
    least = bar.kind == "faster_by"
    if bar.passed:
        verdict = "reached" if _share(bar) <= 1 else "reached by the second"
    else:
        off = 1 - bar.value / bar.ratio if least else bar.value / bar.ratio - 1
        verdict = f"missed, {100 * off:.2g} % {'short' if least else 'over'}"
    of = "time" if bar.metric == "time" else bar.metric.replace("_", " ")
    wanted = f"wanted {'at least' if least else 'at most'} {_times(bar.ratio)}"
    if bar.slack:
        wanted += f" or {seconds_told(bar.slack) if bar.metric == 'time' else bytes_told(int(bar.slack))} more"
    sides = (bar.against, "ours") if least else ("ours", bar.against)
    return f"{bar.what}: {sides[0]} is {_times(bar.value)} {sides[1]} in {of}, {wanted}: {verdict}"


def losses(run: Run) -> list[Loss]:
    """Every case where a bar is missed, or where a peer is faster or leaner than ours, the worst first."""
    found: list[Loss] = []
    for case in run.cases:
        if case.status != "ok":
            continue
        found += [Loss(case.name, bar_told(bar), _share(bar)) for bar in case.bars if bar.passed is False]
        ours = ours_of(case)
        for peer in (one for one in case.contenders if is_peer(one.name)):
            found += [Loss(case.name, what, share) for what, share in _wins(peer, ours)]
    return sorted(found, key=lambda loss: -loss.share)


def _wins(peer: ContenderResult, ours: ContenderResult) -> Iterator[tuple[str, float]]:
    if peer.ratio < 1:
        doubt = ", within the noise of the rounds" if peer.ratio_q3 >= 1 else ""
        medians = f"median {seconds_told(peer.median_s)}, ours {seconds_told(ours.median_s)}"
        yield f"{peer.name} takes {_times(peer.ratio)} our time in a round{doubt} ({medians})", 1 / peer.ratio
    if ours.saved_bytes > SAVED_NOISE * peer.saved_bytes:
        told = f"{bytes_told(peer.saved_bytes)} to our {bytes_told(ours.saved_bytes)}"
        yield f"{peer.name} saves less for backward: {told}", ours.saved_bytes / max(peer.saved_bytes, 1)
    if peer.peak_bytes is None or ours.peak_bytes is None:
        return
    if ours.peak_bytes > max(PEAK_NOISE * peer.peak_bytes, peer.peak_bytes + PEAK_NOISE_BYTES):
        told = f"{bytes_told(peer.peak_bytes)} to our {bytes_told(ours.peak_bytes)}"
        yield f"{peer.name} has a lower peak: {told}", ours.peak_bytes / max(peer.peak_bytes, 1)


def operator_told(one: OperatorShare) -> str:
    """An operator of a profile in one line."""
    return f"{100 * one.share:5.1f} %  {one.calls:5.4g} a call  {one.name}"


def rows(case: CaseResult) -> list[tuple[str, ...]]:
    """The rows of a case: one a contender, and one for each that was left out."""
    table = []
    for one in case.contenders:
        of_limit = "-" if one.limit_fraction is None else f"{100 * one.limit_fraction:.3g} %"
        quartiles = f"{seconds_told(one.q1_s)} to {seconds_told(one.q3_s)}"
        saved, peak = bytes_told(one.saved_bytes), bytes_told(one.peak_bytes)
        table.append(
            (case.name, one.name, seconds_told(one.median_s), quartiles, ratio_told(one), saved, peak, of_limit)
        )
    table += [(case.name, name, f"not run: {why}", "", "", "", "", "") for name, why in case.missing.items()]
    if case.status != "ok":
        table.append((case.name, case.status.upper(), case.trouble or "", "", "", "", "", ""))
    return table


def is_busy(run: Run) -> bool:
    """Whether others wanted the machine before the run began."""
    return run.load is not None and run.load > BUSY * run.machine.cores


def describe(run: Run) -> str:
    """What ran where, in a line or two."""
    machine, versions = run.machine, run.versions
    gpu = f"{machine.gpu}, " if machine.gpu else ""
    state = {True: " and changes", False: "", None: ""}[versions.dirty]
    packages = ", ".join(f"{name} {version}" for name, version in versions.packages.items() if version)
    return (
        f"{gpu}{machine.cpu}, {machine.cores} cores, {bytes_told(machine.ram_bytes)}, {machine.system}; "
        f"{run.threads} threads, {run.dtype}, load {run.load} before the run"
        f"{': THE MACHINE WAS BUSY, times are hints' if is_busy(run) else ''}.\n"
        f"flamingo_blocks {versions.flamingo_blocks} at {(versions.commit or 'no commit')[:12]}{state}, "
        f"torch {versions.torch}, python {versions.python}, {packages}; {run.date}.\n"
        f"Matrix products {run.limits.matmul_flops_per_s / 1e9:.4g} GFLOP/s, "
        f"copies {run.limits.copy_bytes_per_s / 1e9:.4g} GB/s, both measured."
    )


def terminal(run: Run) -> str:
    """The report of a run as text: troubles, losses, every case, bars."""
    parts = [describe(run)]
    troubles = [f"  {case.status.upper()} {case.name}: {case.trouble}" for case in run.cases if case.status != "ok"]
    if troubles:
        parts.append("\n".join(["Cases without numbers:", *troubles]))
    lost = [f"  {loss.case}: {loss.what}" for loss in losses(run)]
    parts.append("\n".join(["Losses, the worst first:", *(lost or ["  none"])]))
    parts += [
        "\n".join(
            [f"Where the time of {OURS} goes in {case.name}:", *(f"  {operator_told(one)}" for one in case.profile)]
        )
        for case in run.cases
        if case.profile
    ]
    parts.append(_aligned([COLUMNS, *(row for case in run.cases for row in rows(case) if case.status == "ok")]))
    bars = [f"  {case.name}: {bar_told(bar)}" for case in run.cases for bar in case.bars if bar.passed is not False]
    if bars:
        parts.append("\n".join(["Bars reached, or not judged:", *bars]))
    return "\n\n".join(parts)


def _aligned(table: Sequence[tuple[str, ...]]) -> str:
    # a row that says why a contender was left out is no measure of a column
    widths = [max((len(row[k]) for row in table if row[-1]), default=0) for k in range(len(COLUMNS))]
    lines, last = [], ""
    for row in table:
        cells = list(row)
        cells[0], last = ("" if row[0] == last else row[0]), row[0]
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    return "\n".join(lines)
