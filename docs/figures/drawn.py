"""All figures that are SVG, by the files that they stand in."""

from pathlib import Path

from benchmarks import page, plots
from docs.figures import ablations, block, masks, placement, resampler, shots
from docs.figures.svg import Drawing

ASSETS = Path(__file__).parents[1] / "assets"


def drawn() -> dict[Path, str]:
    """What stands in each file."""
    alone = (resampler.draw(), block.draw(), placement.draw(), *masks.drawings(), shots.draw())
    drawings = {ASSETS / "figures" / _file(drawing): drawing for drawing in alone}
    curves = ablations.draw()
    drawings[ASSETS / "ablations" / _file(curves)] = curves
    for run in page.published():
        drawings |= {page.PLOTS / _file(drawing): drawing for drawing in plots.drawings(run).values()}
    return {path: drawing.render() for path, drawing in drawings.items()}


def _file(drawing: Drawing) -> str:
    return f"{drawing.id.removeprefix('fig-')}.svg"
