"""Plots of a run as SVG: time and memory against items, and the roofline; readable on a light and on a dark page."""

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.case import OURS
from benchmarks.results import CaseResult, ContenderResult, Run

# Mid tones, readable on white and on black; one a contender, so that plots can be read side by side. Contenders that
# are not here, such as ours with the options of a peer, stand in the tables only.
COLOURS = {
    OURS: "#e8590c",
    "open_flamingo": "#2f80c4",
    "flamingo_pytorch": "#3f9b5f",
    "idefics": "#9a6dd7",
    "mllama": "#c2558f",
    "projections": "#8a8a8a",
}
GREY = "#808080"
MOST_PANELS = 6
LEAST_POINTS = 3
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
    kinds = {
        "time": lambda path: _against_items(run, path, "median_s", "seconds"),
        "saved": lambda path: _against_items(run, path, "saved_bytes", "bytes saved for backward"),
        "peak": lambda path: _against_items(run, path, "peak_bytes", "bytes at the peak of a call"),
        "roofline": lambda path: _roofline(run, path),
    }
    paths = {kind: folder / f"{stem(run)}--{kind}.svg" for kind in kinds}
    return {kind: paths[kind] for kind, drawn in kinds.items() if drawn(paths[kind])}


def _figure(columns: int, lines: int) -> tuple[Any, list[Any]]:
    """A figure without background, the same bytes for the same numbers."""
    import matplotlib as mpl  # noqa: PLC0415 (a run without plots needs no matplotlib)
    from matplotlib.figure import Figure  # noqa: PLC0415

    mpl.rcParams.update({"svg.hashsalt": "flamingo_blocks", "svg.fonttype": "none", "font.size": 9})
    for part in ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color", "ytick.color"):
        mpl.rcParams[part] = GREY
    figure = Figure(figsize=(4.2 * columns, 3.2 * lines), layout="constrained")
    figure.patch.set_alpha(0.0)
    panels = figure.subplots(lines, columns, squeeze=False).ravel().tolist()
    for panel in panels:
        panel.patch.set_alpha(0.0)
        panel.grid(visible=True, color=GREY, alpha=0.25, linewidth=0.5)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})


def _plain_between(axis: Any, numbers: list[float]) -> None:
    """No numbers at the marks between powers of ten, where the powers alone are enough."""
    from matplotlib.ticker import NullFormatter  # noqa: PLC0415

    if max(numbers) > 100 * min(numbers):
        axis.set_minor_formatter(NullFormatter())


def _legend(figure: Any, panels: list[Any]) -> None:
    shown = {}
    for panel in panels:
        handles, labels = panel.get_legend_handles_labels()
        shown.update(zip(labels, handles, strict=True))
    columns = int(figure.get_figwidth() // 1.9)
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=columns, frameon=False)


def _against_items(run: Run, path: Path, field: str, unit: str) -> bool:
    """One panel a family, one line a contender, both axes in powers."""
    shown = []
    for name, cases in families(run).items():
        lines = _lines(cases, field)
        if lines.get(OURS) and len(lines) > 1:
            shown.append((name, lines))
    shown = sorted(shown, key=lambda pair: (-len(pair[1][OURS]), pair[0]))[:MOST_PANELS]
    if not shown:
        return False
    columns = min(2, len(shown))
    figure, panels = _figure(columns, -(-len(shown) // columns))
    for panel, (name, lines) in zip(panels, shown, strict=False):
        for contender, points in lines.items():
            ours = contender == OURS
            panel.plot(
                *zip(*points, strict=True),
                label=contender,
                color=COLOURS[contender],
                marker="o",
                markersize=3.5,
                linewidth=2 if ours else 1.2,
                zorder=3 if ours else 2,
            )
        ticks = sorted({items for points in lines.values() for items, _ in points})
        panel.set_xscale("log", base=2)
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.set_yscale("log")
        _plain_between(panel.yaxis, [number for points in lines.values() for _, number in points])
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("items a row")
        panel.set_ylabel(unit)
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    _legend(figure, panels)
    _save(figure, path)
    return True


def _lines(cases: list[CaseResult], field: str) -> dict[str, list[tuple[int, float]]]:
    """Points (items, number) by contender; a number that is nothing has no place on a log axis."""
    lines: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for case in cases:
        for contender in case.contenders:
            number = getattr(contender, field)
            if number and contender.name in COLOURS:
                lines[contender.name].append((_items(case), number))
    return dict(lines)


def _roofline(run: Run, path: Path) -> bool:
    """Arithmetic done a second against arithmetic a byte, under the roof that was measured."""
    points: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for case in run.cases:
        if case.flops and case.bytes:
            for contender in case.contenders:
                if contender.name in COLOURS:
                    points[contender.name].append(_point(case, contender))
    if not points:
        return False
    peak, bandwidth = run.limits.matmul_flops_per_s, run.limits.copy_bytes_per_s
    intensities = [intensity for series in points.values() for intensity, _ in series] + [peak / bandwidth]
    low, high = min(intensities) / 2, max(intensities) * 2
    figure, panels = _figure(1, 1)
    figure.set_size_inches(7, 4.2)
    roof = [low, peak / bandwidth, high]
    panels[0].plot(roof, [min(peak, bandwidth * x) for x in roof], color=GREY, linewidth=1.5, label="measured limit")
    for contender, series in sorted(points.items(), key=lambda pair: pair[0] == OURS):
        look = {"s": 18, "color": COLOURS[contender], "alpha": 0.8, "linewidths": 0}
        panels[0].scatter(*zip(*series, strict=True), label=contender, **look)
    panels[0].set_xscale("log")
    panels[0].set_yscale("log")
    _plain_between(panels[0].yaxis, [work for series in points.values() for _, work in series])
    panels[0].set_xlabel("useful operations a byte")
    panels[0].set_ylabel("useful operations a second")
    _legend(figure, panels)
    _save(figure, path)
    return True


def _point(case: CaseResult, contender: ContenderResult) -> tuple[float, float]:
    assert case.flops and case.bytes
    return case.flops / case.bytes, case.flops / contender.median_s
