"""Own score less that of each control, with intervals, as one picture of a task."""

from collections.abc import Iterable, Sequence

from flamingo_blocks.data.show.write_html import as_text
from flamingo_blocks.evaluation.reports.axes import Scale, ticks
from flamingo_blocks.evaluation.reports.curves import short
from flamingo_blocks.evaluation.reports.image_use import Difference, sentence
from flamingo_blocks.evaluation.reports.summarise import BASELINE

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 400, 136, 46, 6, 24, 40


def draw_differences(differences: Sequence[Difference], *, identity: str, title: str) -> str:
    """A row for each control: a point at the difference, a bar over its interval, and a line at zero.

    A point is filled where the interval does not hold zero.

    Args:
        differences: Of one task; at least one.
        identity: Begin of the ids of this picture, once on a page.
        title: What is drawn, for who cannot see it.
    """
    low = min(0.0, *(each.low for each in differences), *(each.value for each in differences))
    high = max(0.0, *(each.high for each in differences), *(each.value for each in differences))
    marks = ticks(low, high, most=5)
    height = TOP + ROW * len(differences) + BOTTOM
    across = Scale(low=marks[0], high=marks[-1], start=LEFT + 6, end=WIDTH - RIGHT - 6)
    told = " ".join(map(sentence, differences))
    return "".join([
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{identity}-t {identity}-d">',
        f'<title id="{identity}-t">{as_text(title)}</title><desc id="{identity}-d">{as_text(told)}</desc>',
        *_axis(marks, across, height - BOTTOM),
        *(part for at, each in enumerate(differences) for part in _row(each, TOP + ROW * (at + 0.5), across)),
        "</svg>",
    ])  # fmt: skip


def _axis(marks: Sequence[float], across: Scale, bottom: float) -> Iterable[str]:
    digits = 0 if all(value == round(value) for value in marks) else 1 if marks[1] - marks[0] >= 0.1 else 2
    for value in marks:
        kind, x = "zero" if value == 0 else "grid", across(value)
        yield f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
        yield f'<text class="tick" x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{value:.{digits}f}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    told = "own score less that of the control"
    yield f'<text class="tick" x="{middle}" y="{bottom + 33}" text-anchor="middle">{told}</text>'


def _row(each: Difference, y: float, across: Scale) -> Iterable[str]:
    sure = "sure" if each.low > 0 or each.high < 0 else "unsure"
    name = f"{short(each.control.removeprefix(BASELINE))} ({each.shots})"
    yield f'<text class="label" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{as_text(name)}</text>'
    yield f'<path class="reach" d="M{across(each.low):.1f} {y}H{across(each.high):.1f}"/>'
    yield f'<circle class="{sure}" cx="{across(each.value):.1f}" cy="{y}" r="4.5"/>'
    yield f'<text class="label" x="{WIDTH - RIGHT + 6}" y="{y + 4}">{each.value:+.1f}</text>'
