"""Curves over the number of shots, as SVG that a page holds inline."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from flamingo_blocks.data.show.write_html import as_text
from flamingo_blocks.evaluation.reports.axes import Scale, spread, ticks

Style = Literal["own", "control", "baseline", "published"]
WIDTH, LEFT, RIGHT, TOP, BOTTOM = 400, 38, 130, 30, 36  # of the picture, and of what is around the plot
HEIGHT = 280  # of a picture that has room for its labels
LABEL_GAP = 14  # between the base lines of two labels
_MARKS = (
    '<circle r="3.5"/>', '<rect x="-3" y="-3" width="6" height="6"/>', '<path d="M0-4 4 3H-4Z"/>',
    '<path d="M0-4.5 4 0 0 4.5-4 0Z"/>', '<path d="M0 4 4-3H-4Z"/>', '<path d="M-4-1H-1V-4H1V-1H4V1H1V4H-1V1H-4Z"/>',
    '<path d="M-4-2-2-4 0-2 2-4 4-2 2 0 4 2 2 4 0 2-2 4-4 2-2 0Z"/>', '<path d="M-4 0A4 4 0 0 1 4 0Z"/>',
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a curve.

    Args:
        shots: Number of shots.
        value: The score.
        sd: Half the height of the band; None for no band.
        interval: Ends of the thin bar; None for no bar.
    """

    shots: int
    value: float
    sd: float | None = None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, kw_only=True)
class Series:
    """One curve.

    Args:
        name: Written at its end.
        style: How it is drawn: own solid, controls and baselines dotted, published dashed and grey.
        points: By shots.
        hue: Number of its colour and of its mark, of those of a style.
    """

    name: str
    style: Style
    points: tuple[Point, ...]
    hue: int = 0


def draw_curves(series: Sequence[Series], *, identity: str, title: str, unit: str) -> str:
    """Curves over shots, with a label at the end of each.

    Args:
        series: The curves; those that come later lie above.
        identity: Begin of the ids of this picture, once on a page.
        title: What is drawn, for who cannot see it.
        unit: Of the upright axis.
    """
    shots = sorted({point.shots for each in series for point in each.points})
    values = [value for each in series for point in each.points for value in _values(point)]
    height = max(HEIGHT, TOP + BOTTOM + LABEL_GAP * len(series))
    marks = ticks(min(values), max(values))
    across = Scale(low=0, high=max(1, len(shots) - 1), start=LEFT + 12, end=WIDTH - RIGHT - 12)
    along = Scale(low=marks[0], high=marks[-1], start=height - BOTTOM, end=TOP)
    columns = {number: across(at) if len(shots) > 1 else (LEFT + WIDTH - RIGHT) / 2 for at, number in enumerate(shots)}
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{identity}-t {identity}-d">',
        f'<title id="{identity}-t">{as_text(title)}</title>',
        f'<desc id="{identity}-d">{as_text(describe(series))}</desc>',
        *_axes(columns, marks, along, unit, height),
        *(_curve(each, columns, along) for each in series),
        *_labels(series, columns, along, height),
        "</svg>",
    ]
    return "".join(parts)


def describe(series: Iterable[Series]) -> str:
    """All curves in words.

    Args:
        series: The curves.

    Example:
        >>> describe([Series(name="model", style="own", points=(Point(shots=0, value=41.2), Point(shots=4, value=43)))])
        'model: 0 shots 41.2, 4 shots 43.0.'
    """
    told = []
    for each in series:
        points = (f"{point.shots} shot{'' if point.shots == 1 else 's'} {point.value:.1f}" for point in each.points)
        told.append(f"{each.name}: {', '.join(points)}.")
    return " ".join(told)


def mark(style: Style, hue: int) -> str:
    """What a point is drawn as; its shape tells the curve as its colour does."""
    if style == "published":
        return '<circle r="2"/>'
    return _MARKS[0] if style == "own" else _MARKS[1 + hue % (len(_MARKS) - 1)]


def _values(point: Point) -> list[float]:
    around = [] if point.sd is None else [point.value - point.sd, point.value + point.sd]
    return [point.value, *around, *(point.interval or ())]


def _axes(columns: dict[int, float], marks: Sequence[float], along: Scale, unit: str, height: int) -> Iterable[str]:
    digits = 0 if all(value == round(value) for value in marks) else 1 if marks[1] - marks[0] >= 0.1 else 2
    for value in marks:
        y, written = along(value), f"{value:.{digits}f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 5}" y="{y + 4:.1f}" text-anchor="end">{written}</text>'
    for number, x in columns.items():
        yield f'<text class="tick" x="{x:.1f}" y="{height - BOTTOM + 17}" text-anchor="middle">{number}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text class="tick" x="{middle}" y="{height - 4}" text-anchor="middle">shots</text>'
    yield f'<text class="tick" x="4" y="14">{as_text(short(unit, most=40))}</text>'


def _curve(each: Series, columns: dict[int, float], along: Scale) -> str:
    parts = [f'<g class="{each.style} hue{each.hue}">']
    places = [(columns[point.shots], along(point.value)) for point in each.points]
    parts += _band(each.points, columns, along)
    if len(places) > 1:
        parts.append(f'<polyline class="line" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}"/>')
    for point, (x, y) in zip(each.points, places, strict=True):
        if point.interval is not None:
            low, high = along(point.interval[0]), along(point.interval[1])
            caps = f"M{x - 3:.1f} {low:.1f}h6M{x - 3:.1f} {high:.1f}h6M{x:.1f} {low:.1f}V{high:.1f}"
            parts.append(f'<path class="bar" d="{caps}"/>')
        parts.append(f'<g class="mark" transform="translate({x:.1f} {y:.1f})">{mark(each.style, each.hue)}</g>')
    return "".join([*parts, "</g>"])


def _band(points: Sequence[Point], columns: dict[int, float], along: Scale) -> Iterable[str]:
    """The band between each two neighbours that both have a spread; around a lone one, a box."""
    lone = len(points) == 1
    for before, after in pairwise(points) if not lone else [(points[0], points[0])]:
        if before.sd is None or after.sd is None:
            continue
        aside = 6 if lone else 0
        left, right = columns[before.shots] - aside, columns[after.shots] + aside
        corners = (
            (left, before.value + before.sd), (right, after.value + after.sd),
            (right, after.value - after.sd), (left, before.value - before.sd),
        )  # fmt: skip
        yield f'<polygon class="band" points="{" ".join(f"{x:.1f},{along(y):.1f}" for x, y in corners)}"/>'


def _labels(series: Sequence[Series], columns: dict[int, float], along: Scale, height: int) -> Iterable[str]:
    ends = [(columns[each.points[-1].shots], along(each.points[-1].value)) for each in series]
    lines = spread([y for _, y in ends], gap=LABEL_GAP, low=TOP - 8, high=height - BOTTOM + 16)
    for each, (x, y), line in zip(series, ends, lines, strict=True):
        edge = WIDTH - RIGHT + 4
        yield f'<g class="{each.style} hue{each.hue}">'
        yield f'<path class="lead" d="M{x + 5:.1f} {y:.1f}L{edge} {line:.1f}"/>'
        yield f'<g class="mark" transform="translate({edge + 6} {line:.1f})">{mark(each.style, each.hue)}</g>'
        yield f'<text class="label" x="{edge + 14}" y="{line + 4:.1f}">{as_text(short(each.name))}</text></g>'


def short(name: str, *, most: int = 17) -> str:
    """A name that has its place at the end of a curve.

    Args:
        name: Any.
        most: Letters that have room.

    Example:
        >>> short("a name that is too long for it")
        'a name that is t…'
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"
