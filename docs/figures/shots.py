"""The demo's accuracy against shots, of the numbers that the README's table holds too."""

import json
from pathlib import Path

from docs.figures.chart import Panel, key, part, steps
from docs.figures.svg import Drawing

NUMBERS = Path(__file__).parents[1] / "assets" / "shots.json"
LOOKS = (("a", None), ("b", "6 3"), ("c", "2 3"))
CHANCE = 0.2


def draw() -> Drawing:
    """The rise, and the two controls at chance."""
    found = json.loads(NUMBERS.read_text())
    shots, curves = found["shots"], found["curves"]
    told = ". ".join(f"{name}: {', '.join(f'{value:.2f}' for value in values)}" for name, values in curves.items())
    drawing = Drawing(
        "shots",
        title="Accuracy against the number of shots",
        description=f"With {', '.join(map(str, shots))} shots, {found['about']}. {told}.",
        height=336,
    )
    across = steps([str(number) for number in shots], "shots: images with their names in the prompt")
    panel = Panel(drawing, left=54, top=14, width=292, height=216, across=across, up=part("accuracy, best of 5 names"))
    panel.line([(0, CHANCE), (len(shots) - 1, CHANCE)], "line", width=1, mark="none")
    for (colour, dash), values in reversed(list(zip(LOOKS, curves.values(), strict=True))):
        panel.line(list(enumerate(values)), colour, dash=dash)
    x, y = panel.at(len(shots) - 1, CHANCE)
    drawing.text(x, y + 22, "chance", anchor="end", colour="soft")
    key(drawing, 290, [(name, *look) for name, look in zip(curves, LOOKS, strict=True)], left=8)
    return drawing
