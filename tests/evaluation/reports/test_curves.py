"""Pictures: labels do not overlap, values are inside of their axes, and colours can be told from the card."""

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.show.page_style import DARK, LIGHT
from flamingo_blocks.evaluation.reports.axes import spread, ticks
from flamingo_blocks.evaluation.reports.chart_series import ratio_groups, task_series
from flamingo_blocks.evaluation.reports.curves import HEIGHT, WIDTH, Point, Series, draw_curves
from flamingo_blocks.evaluation.reports.report_style import CONTROL_HUES, OWN_HUE, PUBLISHED_HUE
from flamingo_blocks.evaluation.reports.summarise import summarise
from tests.evaluation.reports.made_result import made_result


@given(st.lists(st.floats(0, 100), max_size=10))
def test_labels_find_room(places):
    """They keep their distance, their order, and the range that has room for all."""
    found = spread(places, gap=9, low=0, high=100)
    ordered = sorted(found)
    assert all(after - before >= 9 - 1e-9 for before, after in pairwise(ordered))
    assert all(0 <= place <= 100 for place in found)
    order = sorted(range(len(places)), key=lambda at: places[at])
    assert sorted(range(len(places)), key=lambda at: found[at]) == order


@given(st.floats(-1e4, 1e4), st.floats(0, 1e4))
def test_marks_go_around_the_values(low, reach):
    """The first is not above them, the last not below, and there are few."""
    marks = ticks(low, low + reach)
    assert marks[0] <= low + 1e-6
    assert marks[-1] >= low + reach - 1e-6
    assert 2 <= len(marks) <= 8
    assert marks == sorted(set(marks))


@given(
    st.lists(
        st.dictionaries(st.sampled_from([0, 1, 2, 4, 8]), st.floats(-200, 200), min_size=1),
        min_size=1, max_size=16,
    )
)  # fmt: skip
def test_all_is_inside_of_the_picture(curves):
    """Whatever the values are: points, labels and marks."""
    styles = ("own", "control", "baseline", "published")
    series = [
        Series(name=f"s{at}", style=styles[at % 4], hue=at, points=tuple(
            Point(shots=shots, value=value, sd=3.0, interval=(value - 5, value + 2))
            for shots, value in sorted(curve.items())
        ))
        for at, curve in enumerate(curves)
    ]  # fmt: skip
    picture = draw_curves(series, identity="x", title="t", unit="u")
    height = int(re.search(rf'viewBox="0 0 {WIDTH} (\d+)"', picture)[1])
    assert height >= HEIGHT
    places = [tuple(map(float, place)) for place in re.findall(r"translate\(([-\d.]+) ([-\d.]+)\)", picture)]
    assert len(places) == sum(len(curve) for curve in curves) + len(curves)
    assert all(0 <= x <= WIDTH and 0 <= y <= height for x, y in places)
    assert "nan" not in picture


def test_a_band_needs_two_seeds():
    """One seed has no spread, and none is drawn."""
    for seeds, drawn in (((0, 1), True), ((0,), False)):
        series = task_series(summarise(made_result(seeds=seeds)), "coco")
        assert ('class="band"' in draw_curves(series, identity="x", title="t", unit="u")) is drawn
        assert 'class="bar"' in draw_curves(series, identity="x", title="t", unit="u")


def test_curves_stand_in_order():
    """Published below, baselines, controls, and the model's own on top."""
    styles = [each.style for each in task_series(summarise(made_result()), "coco")]
    assert styles == ["published"] * 5 + ["baseline"] * 3 + ["control"] * 6 + ["own"]


def test_means_are_over_tasks_that_both_have():
    """Models with other tasks are another group, and the own curve of each is over its tasks."""
    groups = ratio_groups(summarise(made_result()), ["coco", "vqav2", "hateful_memes"])
    assert [(tasks, len(series)) for tasks, series in groups] == [(("coco", "vqav2", "hateful_memes"), 6)]
    summaries = summarise(made_result(tasks=("coco",)))
    renamed = [*summaries, *(type(each)(**{**vars(each), "task": "vatex"}) for each in summaries)]
    groups = ratio_groups(renamed, ["coco", "vatex"])
    assert [(tasks, [each.name for each in series]) for tasks, series in groups] == [
        (("coco", "vatex"), ["Flamingo-80B", "Flamingo-9B", "Flamingo-3B", "this model"]),
        (("coco",), ["OpenFlamingo-9B", "OpenFlamingo-3B", "this model"]),
    ]
    own = {task: each.mean for each in renamed for task in [each.task] if (each.control, each.shots) == ("none", 0)}
    assert groups[0][1][-1].points[0].value == pytest.approx(50 * (own["coco"] / 143.3 + own["vatex"] / 76.3))


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("hues", (OWN_HUE, PUBLISHED_HUE, *CONTROL_HUES))
def test_colours_can_be_told_from_the_card(hues):
    """3 to 1 in the light and in the dark, as WCAG asks of what is drawn."""
    for hue, mode in zip(hues, (LIGHT, DARK), strict=True):
        lighter, darker = sorted((luminance(hue), luminance(mode["card"])), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 3
