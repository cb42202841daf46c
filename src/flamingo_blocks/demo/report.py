"""What the demo found, as a table, a picture and a file."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from flamingo_blocks._optional import require
from flamingo_blocks.demo.measure import Curve
from flamingo_blocks.demo.rows import ROWS, Row
from flamingo_blocks.demo.samples import Sample


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """Everything the demo measured.

    Args:
        seed: The seed of the run.
        seconds: Wall-clock time of each phase.
        cpu_seconds: Processor time up to the last question, ablations apart.
        curves: Accuracy by number of shots for each kind of question, see `naming_curves`.
        captions: Accuracy of captions on seen and unseen pairs, and with the gates closed.
        tower: Accuracy at which the tower alone reads seen and unseen pairs.
        lm_recall: How often the language model alone names a thing that its text has named.
        gates: The values of the gates, tanh taken: attention and feed-forward of each layer in turn.
        parameters: Number of parameters that were trained, and of the frozen parts.
        samples: Prompts with what the model wrote.
        ablations: For each, the curves and captions of a run with one thing changed.

    Example:
        >>> result = DemoResult(
        ...     seed=0, seconds={"blocks": 21.0}, cpu_seconds=40.2, lm_recall=0.99, gates=[0.4, 0.2],
        ...     curves={"2.unseen": {"0": 0.02, "2": 0.9, "8": 0.95}}, captions={"unseen": 0.9}, tower={"unseen": 0.97},
        ...     parameters={"trained": 10_000, "frozen": 90_000},
        ... )
        >>> round(result.curves["2.unseen"]["8"] - result.curves["2.unseen"]["0"], 2)  # what eight shots tell
        0.93
    """

    seed: int
    seconds: Mapping[str, float]
    cpu_seconds: float
    curves: Mapping[str, Curve]
    captions: Mapping[str, float]
    tower: Mapping[str, float]
    lm_recall: float
    gates: Sequence[float]
    parameters: Mapping[str, int]
    samples: Sequence[Sample] = ()
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def to_json(result: DemoResult) -> dict[str, Any]:
    """The content of `results.json`."""
    return {
        "seed": result.seed,
        "versions": {
            "flamingo_blocks": version("flamingo-blocks"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "seconds": dict(result.seconds),
        "cpu_seconds": result.cpu_seconds,
        "curves": {key: dict(curve) for key, curve in result.curves.items()},
        "captions": dict(result.captions),
        "tower": dict(result.tower),
        "lm_recall": result.lm_recall,
        "gates": list(result.gates),
        "parameters": dict(result.parameters),
        "samples": [vars(sample) for sample in result.samples],
        "ablations": {name: dict(found) for name, found in result.ablations.items()},
    }


def write_json(result: DemoResult, file: Path) -> None:
    """Write `results.json`."""
    file.write_text(json.dumps(to_json(result), indent=1) + "\n")


def format_table(curves: Mapping[str, Curve], *, rows: Sequence[Row] = ROWS) -> str:
    """Shots x accuracy as text, with a column for chance.

    Args:
        curves: Accuracy by number of shots, by the name of what was asked, as `results.json` has them.
        rows: What to show, in order; those that no curve is of are left out.

    Returns:
        Lines of one width a column.

    Example:
        >>> print(format_table({"2.seen.closed": {"0": 0.5, "1": 0.6, "2": 1.0, "4": 1.0, "8": 1.0}}))
        shots                                    0     1     2     4     8    16  chance
        2 names, seen pairs            closed  0.50  0.60  1.00  1.00  1.00          0.50
    """
    shots = ("0", "1", "2", "4", "8", "16")
    lines = [f"{'shots':39}" + "".join(f"{number:>6}" for number in shots) + "  chance"]
    for row in rows:
        for answer in ("closed", "open"):
            key = f"{row.key}.{answer}" if not row.control else row.key if answer == "closed" else ""
            if key in curves:
                curve = curves[key]
                cells = "".join(f"{curve[number]:6.2f}" if number in curve else " " * 6 for number in shots)
                chance = f"  {1 / row.num_names:6.2f}" if answer == "closed" else ""
                lines.append(f"{row.title:33}{answer:6}{cells}{chance}")
    return "\n".join(lines)


def plot_curves(curves: Mapping[str, Curve], file: Path) -> None:
    """Draw accuracy against shots for five names: the rise, and the controls at chance.

    Args:
        curves: As `naming_curves` gives them; kinds that are missing are left out.
        file: A PNG file to write.
    """
    figures = require("matplotlib.figure", used_by="plot_curves", extra="demo")
    figure = figures.Figure(figsize=(6.4, 4.2))
    axes = figure.subplots()
    drawn = (
        ("5.seen.closed", "seen colour-digit pairs, new images", "tab:green", "-"),
        ("5.unseen.closed", "pairs no training image showed", "tab:blue", "-"),
        ("5.unseen.open", "same, any of all words", "tab:blue", ":"),
        ("5.unseen.permuted", "same, images of the shots permuted", "tab:orange", "--"),
        ("5.unseen.gates_closed", "same, gates closed", "tab:red", "--"),
    )
    ticks: list[str] = []
    for key, label, colour, line in drawn:
        if key in curves:
            ticks = list(curves[key])
            axes.plot(range(len(ticks)), list(curves[key].values()), line, marker="o", color=colour, label=label)
    axes.axhline(0.2, color="grey", linewidth=1)
    axes.text(len(ticks) - 1, 0.16, "chance", color="grey", fontsize=8, ha="right")
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel("shots: images with their names in the prompt")
    axes.set_ylabel("accuracy, 5 made-up names")
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=8, loc="center right")
    figure.tight_layout()
    figure.savefig(file, dpi=120)
