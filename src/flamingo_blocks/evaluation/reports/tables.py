"""The numbers of one task as rows of texts, for Markdown and HTML alike."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flamingo_blocks.evaluation.reports.summarise import BASELINE, OWN, STOPPED, Summary, control_rank
from flamingo_blocks.evaluation.results import Cell

COUNTS = ("asked", "scored", "missing", "empty", "truncated")  # what is told first of what was counted
NOTHING = "-"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Texts in rows.

    Args:
        head: Names of the columns.
        rows: As many texts each.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def score_table(summaries: Sequence[Summary], cells: Sequence[Cell]) -> Table:
    """Scores: a row for each thing that was scored and each variant, a column for each number of shots.

    Args:
        summaries: Of one task.
        cells: Of the same task.
    """
    shots = sorted({cell.shots for cell in cells})
    lost = {(cell.control, cell.shots) for cell in cells if cell.counts.get("truncated")}
    rows: dict[tuple[str, str], dict[int, str]] = {}
    for each in summaries:
        if each.place == 0 or each.control == OWN:
            row = rows.setdefault((who(each.control), each.variant), {})
            row[each.shots] = _score(each) + (" OOC" if (each.control, each.shots) in lost else "")
    for each in summaries:
        if each.difference is not None:
            value, low, high = each.difference
            row = rows.setdefault((f"model less {who(each.control)}", each.variant), {})
            row[each.shots] = f"{value:+.2f} [{low:.2f}, {high:.2f}]"
    return Table(
        head=("", "variant", *(_shots(number) for number in shots)),
        rows=tuple((*key, *(row.get(number, "") for number in shots)) for key, row in rows.items()),
    )


def count_table(summaries: Sequence[Summary], cells: Sequence[Cell]) -> Table:
    """What was counted, and the shares: a row for each control and number of shots.

    Args:
        summaries: Of one task.
        cells: Of the same task.
    """
    headlines = {(each.control, each.shots): each for each in summaries if each.place == 0}
    counted = {name for cell in cells for name in cell.counts if not name.startswith(STOPPED)}
    counts = [*(name for name in COUNTS if name in counted), *sorted(counted - set(COUNTS))]
    rates = sorted({name for each in headlines.values() for name in each.rates})
    groups: dict[tuple[str, int], list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: (control_rank(cell.control), cell.shots, cell.seed)):
        groups.setdefault((cell.control, cell.shots), []).append(cell)
    rows = []
    for (control, shots), group in groups.items():
        found = [_alike(cell.counts.get(name, NOTHING) for cell in group) for name in counts]
        shares = headlines[control, shots].rates
        told = [f"{100 * shares[name]:.1f} %" if name in shares else NOTHING for name in rates]
        rows.append((who(control), str(shots), *found, *told))
    return Table(head=("", "shots", *counts, *(name.replace("_", " ") for name in rates)), rows=tuple(rows))


def part_table(cells: Sequence[Cell]) -> Table | None:
    """Parts of the model's own headline, such as types of question; the values of seeds side by side.

    Args:
        cells: Of one task.
    """
    own = sorted((cell for cell in cells if cell.control == OWN), key=lambda cell: (cell.shots, cell.seed))
    names = list(dict.fromkeys(name for cell in own for name in cell.scores[0].parts))
    shots = sorted({cell.shots for cell in own})
    if not names:
        return None
    rows = []
    for name in names:
        parts = [[cell.scores[0].parts.get(name) for cell in own if cell.shots == number] for number in shots]
        rows.append((name, *(_alike(NOTHING if part is None else f"{part:.2f}" for part in some) for some in parts)))
    return Table(head=("part", *(_shots(number) for number in shots)), rows=tuple(rows))


def fact_rows(facts: Mapping[str, Any], *, before: str = "") -> list[tuple[str, str]]:
    """Names and values of nested facts, in rows.

    Args:
        facts: Anything under names.
        before: What all names begin with.

    Example:
        >>> fact_rows({"device": "cpu", "versions": {"torch": "2.13"}, "shots": [0, 4]})
        [('device', 'cpu'), ('versions.torch', '2.13'), ('shots', '0, 4')]
    """
    rows: list[tuple[str, str]] = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            rows += fact_rows(value, before=f"{before}{name}.")
        elif isinstance(value, list | tuple) and not any(isinstance(part, Mapping | list | tuple) for part in value):
            rows.append((f"{before}{name}", ", ".join(map(str, value)) or NOTHING))
        else:
            rows.append((f"{before}{name}", str(value)))
    return rows


def note_rows(cells: Sequence[Cell]) -> list[tuple[str, str]]:
    """Facts of cells: what is so in all of them once, else with the cells that it is so in.

    Args:
        cells: Of one task.
    """
    places: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for row in fact_rows(cell.facts):
            places.setdefault(row, []).append(f"{who(cell.control)}, {_shots(cell.shots)}, seed {cell.seed}")
    return [
        (name, value if len(found) == len(cells) else f"{value} ({'; '.join(found)})")
        for (name, value), found in places.items()
    ]


def who(control: str) -> str:
    """What was scored, in words."""
    if control.startswith(BASELINE):
        return f"baseline {control.removeprefix(BASELINE)}"
    return "model" if control == OWN else f"control {control}"


def _shots(number: int) -> str:
    return "1 shot" if number == 1 else f"{number} shots"


def _score(each: Summary) -> str:
    if each.mean is None:
        return "no score"
    spread = "" if each.sd is None else f" ± {each.sd:.2f}"
    interval = "" if each.interval is None else f" [{each.interval[0]:.2f}, {each.interval[1]:.2f}]"
    return f"{each.mean:.2f}{spread}{interval} (n={len(each.seeds)})"


def _alike(values: Iterable[object]) -> str:
    """One text if all are the same, else all of them."""
    texts = list(map(str, values))
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)
