"""Plots of a run as SVG: time and memory against items, and the roofline; readable on a light and on a dark page."""

import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.case import OURS
from benchmarks.results import CaseResult, ContenderResult, Run
from docs.figures.chart import Axis, Panel, key, powers
from docs.figures.svg import Drawing

# One look a contender, so that plots can be read side by side. Contenders that are not here, such as ours with the
# options of a peer, stand in the tables only.
COLOURS = {OURS: "a", "open_flamingo": "b", "flamingo_pytorch": "c", "idefics": "d", "mllama": "e", "projections": "f"}
DASHES = {
    "open_flamingo": "6 3",
    "flamingo_pytorch": "2 3",
    "idefics": "8 3 2 3",
    "mllama": "4 2",
    "projections": "1 3",
}
MOST_PANELS = 6
HEIGHT = 112  # of a panel
LEAST_POINTS = 3
MOST_LETTERS = 48
Lines = dict[str, list[tuple[int, float]]]
_ITEMS = re.compile(r"/items(\d+)(?=/|$)")


def families(run: Run) -> dict[str, list[CaseResult]]:
    """Cases that differ in nothing but the number of items, by their name without it, in the order of items."""
    found: dict[str, list[CaseResult]] = defaultdict(list)
    for case in run.cases:
        if case.status == "ok" and _ITEMS.search(case.name):
            found[_ITEMS.sub("", case.name)].append(case)
    kept = {name: cases for name, cases in found.items() if len(cases) >= LEAST_POINTS}
    return {name: sorted(cases, key=_items) for name, cases in kept.items()}


def _items(case: CaseResult) -> int:
    match = _ITEMS.search(case.name)
    assert match is not None
    return int(match[1])


def stem(run: Run) -> str:
    """How the names of a run's plots begin."""
    return f"{run.machine.slug}--{run.device}--{run.dtype}--{run.threads}-threads"


def draw(run: Run, folder: Path) -> dict[str, Path]:
    """Draw the plots of a run that have something to show.

    Args:
        run: The run.
        folder: Where the files go; it is made.

    Returns:
        `time`, `saved`, `peak` and `roofline` to the files, those that were drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for kind, drawing in drawings(run).items():
        paths[kind] = folder / f"{stem(run)}--{kind}.svg"
        paths[kind].write_text(drawing.render())
    return paths


def drawings(run: Run) -> dict[str, Drawing]:
    """The plots of a run that have something to show, by their kind."""
    kinds = {
        "time": _against_items(run, "time", "median_s", "seconds", _seconds),
        "saved": _against_items(run, "saved", "saved_bytes", "saved for backward", _bytes),
        "peak": _against_items(run, "peak", "peak_bytes", "peak of a call", _bytes),
        "roofline": _roofline(run),
    }
    return {kind: drawing for kind, drawing in kinds.items() if drawing is not None}


def _prefixed(value: float, unit: str) -> str:
    """A power of ten with a prefix of its unit."""
    prefixes = {1e12: "T", 1e9: "G", 1e6: "M", 1e3: "k", 1: "", 1e-3: "m", 1e-6: "u"}
    for size, prefix in prefixes.items():
        if value >= size * 0.999:
            return f"{value / size:.0f} {prefix}{unit}".rstrip()
    return f"{value:.0e} {unit}".rstrip()


def _seconds(value: float) -> str:
    return _prefixed(value, "s")


def _bytes(value: float) -> str:
    return _prefixed(value, "B")


def _against_items(run: Run, kind: str, field: str, title: str, unit: Callable[[float], str]) -> Drawing | None:
    """One panel a family, one line a contender, both axes in powers."""
    shown = []
    for name, cases in families(run).items():
        lines = _lines(cases, field)
        if lines.get(OURS) and len(lines) > 1:
            shown.append((name, lines))
    shown = sorted(shown, key=lambda pair: (-len(pair[1][OURS]), pair[0]))[:MOST_PANELS]
    if not shown:
        return None
    contenders = [name for name in COLOURS if any(name in lines for _, lines in shown)]
    drawing = Drawing(
        f"{stem(run)}--{kind}",
        title=f"{title[0].upper()}{title[1:]} against items a row".replace("Saved", "Bytes saved"),
        description=f"{run.machine.gpu or run.machine.cpu}, {run.dtype}; {title} at the most items. "
        + " ".join(_told(name, lines) for name, lines in shown),
        height=(HEIGHT + 68) * len(shown) + 17 * len(contenders) + 8,
    )
    for place, (name, lines) in enumerate(shown):
        _family(drawing, (HEIGHT + 68) * place, name, lines, powers(_numbers(lines), title, unit))
    bottom = (HEIGHT + 68) * len(shown) + 10
    key(drawing, bottom, [(name, COLOURS[name], DASHES.get(name)) for name in contenders])
    return drawing


def _family(drawing: Drawing, top: float, name: str, lines: Lines, up: Axis) -> None:
    """The panel of one family."""
    drawing.text(180, top + 14, name, bold=True, size=11 if len(name) > MOST_LETTERS else 12)
    items = sorted({items for points in lines.values() for items, _ in points})
    ticks = [(number, str(number)) for number in items]
    across = Axis(low=items[0], high=items[-1], ticks=ticks, title="items a row", log=True)
    panel = Panel(drawing, left=74, top=top + 24, width=270, height=HEIGHT, across=across, up=up)
    for contender in reversed([each for each in COLOURS if each in lines]):
        width = 2.2 if contender == OURS else 1.4
        panel.line(lines[contender], COLOURS[contender], width=width, dash=DASHES.get(contender))


def _numbers(lines: Lines) -> list[float]:
    return [value for points in lines.values() for _, value in points]


def _told(name: str, lines: Lines) -> str:
    """What the lines of a family come to."""
    return f"{name}: " + ", ".join(f"{who} {points[-1][1]:.3g}" for who, points in lines.items()) + "."


def _lines(cases: list[CaseResult], field: str) -> Lines:
    """Points (items, number) by contender; a number that is nothing has no place on a log axis."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for case in cases:
        for contender in case.contenders:
            number = getattr(contender, field)
            if number and contender.name in COLOURS:
                lines[contender.name].append((_items(case), number))
    return dict(lines)


def _roofline(run: Run) -> Drawing | None:
    """Arithmetic done a second against arithmetic a byte, under the roof that was measured."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in run.cases:
        if case.flops and case.bytes:
            for contender in case.contenders:
                if contender.name in COLOURS:
                    points[contender.name].append(_point(case, contender))
    if not points:
        return None
    peak, bandwidth = run.limits.matmul_flops_per_s, run.limits.copy_bytes_per_s
    contenders = [name for name in COLOURS if name in points]
    drawing = Drawing(
        f"{stem(run)}--roofline",
        title="Roofline",
        description=f"Useful operations a second against useful operations a byte, of every case, under the measured "
        f"limits: {peak:.3g} operations and {bandwidth:.3g} bytes a second.",
        height=300 + 17 * len(contenders),
    )
    across = powers([each for series in points.values() for each, _ in series], "useful operations a byte", _plain)
    numbers = [work for series in points.values() for _, work in series]
    up = powers([*numbers, peak], "useful operations a second", _plain)
    panel = Panel(drawing, left=60, top=10, width=284, height=220, across=across, up=up)
    # The roof, cut where the panel ends: rising from where it comes in at the left or below, flat behind its corner.
    start = max(across.low, up.low / bandwidth)
    corner = min(max(peak / bandwidth, start), across.high)
    roof = [(x, min(peak, bandwidth * x)) for x in (start, corner, across.high)]
    panel.line(roof, "line", mark="none")
    for name in reversed(contenders):
        for point in points[name]:
            panel.mark(panel.at(*point), COLOURS[name], "round", size=2.6)
    key(drawing, 290, [("measured limit", "line", None)], mark=False)
    for row, name in enumerate(contenders, start=1):
        drawing.add("circle", cx=26, cy=290 + 17 * row, r=3, fill=f"var(--{COLOURS[name]})")
        drawing.text(48, 294 + 17 * row, name, anchor="start")
    return drawing


def _plain(value: float) -> str:
    return _prefixed(value, "")


def _point(case: CaseResult, contender: ContenderResult) -> tuple[float, float]:
    assert case.flops and case.bytes
    return case.flops / case.bytes, case.flops / contender.median_s
