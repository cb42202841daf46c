"""What the ablations found, of the runs in `docs/assets/ablations/results.json`."""

import json
from collections.abc import Mapping, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import mean
from typing import Any

from docs.figures.chart import Panel, key, part, steps
from docs.figures.svg import Drawing

ROOT = Path(__file__).parents[2]
NUMBERS = ROOT / "docs" / "assets" / "ablations" / "results.json"
SHOTS = ("0", "1", "2", "4", "8")
CHANCE = 0.2
# What stays with the rest is thin and dashed; what falls behind is told apart by colour.
LOOKS = (
    ("ink", None), ("b", "6 3"), ("a", None), ("b", "2 3"), ("d", "2 3"), ("e", "6 3"), ("c", None), ("d", "6 3"),
    ("f", "3 3"),
)  # fmt: skip
SHORT = {
    "round-robin, the same batches": "round-robin, batches",
    "round-robin, the same updates": "round-robin, updates",
    "a token sees all previous images": "all previous images",
    "language model from random weights": "random language model",
    "a block before every second layer": "every second layer",
    "MLP in place of the resampler": "MLP for the resampler",
}
Run = Mapping[str, Any]


def titles() -> dict[str, str]:
    """What each variant changes, as its script says."""
    spec = spec_from_file_location("variants", ROOT / "examples" / "ablations" / "variants.py")
    assert spec is not None and spec.loader is not None
    variants = module_from_spec(spec)
    spec.loader.exec_module(variants)
    return {name: variant.title for name, variant in variants.VARIANTS.items()}


def draw() -> Drawing:
    """Naming against shots above, captions below, with every seed."""
    runs = json.loads(NUMBERS.read_text())
    named = titles()
    found = {title: [run for run in runs if run["variant"] == name] for name, title in named.items()}
    drawing = Drawing(
        "curves",
        title="The ablations",
        description="Accuracy of naming with 8 shots, mean of the seeds; captions of seen and of unseen pairs. "
        + " ".join(_told(title, few) for title, few in found.items()),
        height=470 + 32 * len(found),
    )
    panel = Panel(
        drawing, left=54, top=14, width=292, height=216, across=steps(SHOTS, "shots"),
        up=part("accuracy, 5 made-up names, closed"),
    )  # fmt: skip
    panel.line([(0, CHANCE), (len(SHOTS) - 1, CHANCE)], "line", width=1, mark="none")
    for (colour, dash), few in reversed(list(zip(LOOKS, found.values(), strict=True))):
        values = [[run["naming"]["closed"][number] for run in few] for number in SHOTS]
        low, high = ([(place, pick(each)) for place, each in enumerate(values)] for pick in (min, max))
        panel.band(low, high, colour)
        panel.line([(place, mean(each)) for place, each in enumerate(values)], colour, dash=dash, width=1.8)
    key(drawing, 288, [(title, *look) for title, look in zip(found, LOOKS, strict=True)])
    _captions(drawing, found, top=288 + 17 * len(found) + 16)
    return drawing


def _captions(drawing: Drawing, found: Mapping[str, Sequence[Run]], *, top: float) -> None:
    """One line a variant, one mark a seed."""
    drawing.text(12, top, "captions right: dots seen pairs, crosses unseen", anchor="start", bold=True)
    left, width, row = 176, 166, 15
    bottom = top + 12 + row * len(found)
    panel = Panel(
        drawing, left=left, top=top + 8, width=width, height=bottom - top - 8, across=part(""),
        up=steps([""] * (len(found) + 1), ""),
    )  # fmt: skip
    for place, ((title, few), (colour, _)) in enumerate(zip(found.items(), LOOKS, strict=True)):
        y = len(found) - place - 0.5
        _, line = panel.at(0, y)
        drawing.text(left - 6, line + 4, SHORT.get(title, title), anchor="end")
        for run in few:
            panel.mark(panel.at(run["captions"]["seen"], y), colour, "round")
            panel.mark(panel.at(run["captions"]["unseen"], y), colour, "cross")


def _told(title: str, runs: Sequence[Run]) -> str:
    naming = mean(run["naming"]["closed"]["8"] for run in runs)
    seen, unseen = (mean(run["captions"][kind] for run in runs) for kind in ("seen", "unseen"))
    return f"{title}: {naming:.2f}; {seen:.2f} and {unseen:.2f}."
