"""What the ablations found, as a table."""

from collections.abc import Callable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from variants import VARIANTS

Run = Mapping[str, Any]
Column = tuple[str, Callable[[Run], float]]
SHOTS = ("0", "1", "2", "4", "8")


def by_variant(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """The runs of each variant, one a seed."""
    return {name: found for name in VARIANTS if (found := [run for run in runs if run["variant"] == name])}


def cell(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation over seeds.

    Example:
        >>> cell([0.9, 1.0]), cell([0.5])
        ('0.95 ± 0.07', '0.50')
    """
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def format_table(runs: Sequence[Run]) -> str:
    """What each variant can do and what it took, as two tables in Markdown.

    Args:
        runs: As `run_ablations.py` keeps them in `results.json`.

    Returns:
        Them: mean and standard deviation over the seeds.
    """
    can: list[Column] = [
        *((_shots(number), lambda run, number=number: run["naming"]["closed"][number]) for number in SHOTS),
        ("8 shots, open", lambda run: run["naming"]["open"]["8"]),
        ("captions", lambda run: run["captions"]["seen"]),
        ("captions, unseen pairs", lambda run: run["captions"]["unseen"]),
    ]
    took: list[Column] = [
        ("loss, naming", lambda run: run["loss"]["last"]["naming"]),
        ("loss, captions", lambda run: run["loss"]["last"]["captions"]),
        ("largest gradient", lambda run: run["largest_gradient"]),
        ("recall on text", lambda run: run["text_recall"]),
    ]
    first = [["what is changed", *(title for title, _ in can), "the paper's score"]]
    second = [
        ["what is changed", *(title for title, _ in took), "seeds", "updates", "batches", "weights", "s an update"]
    ]
    for name, found in by_variant(runs).items():
        variant, one = VARIANTS[name], found[0]
        paper = "" if variant.paper is None else f"{variant.paper:.1f}"
        first.append([variant.title, *_cells(can, found), paper])
        counts = [f"{number:,}" for number in (len(found), one["updates"], one["batches"], one["trained"]["all"])]
        seconds = cell([run["seconds_per_update"] for run in found], digits=3)
        second.append([variant.title, *_cells(took, found), *counts, seconds])
    return _markdown(first) + "\n\n" + _markdown(second)


def _cells(columns: Sequence[Column], runs: Sequence[Run]) -> list[str]:
    return [cell([value(run) for run in runs]) for _, value in columns]


def _shots(number: str) -> str:
    return f"{number} shot" + "s" * (number != "1")


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *body)]
    return "\n".join(lines)
