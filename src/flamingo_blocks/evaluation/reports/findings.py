"""What in a result asks for a second look, in words."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from flamingo_blocks.evaluation.reports.summarise import BASELINE, OWN, Summary, summarise
from flamingo_blocks.evaluation.results import Cell, EvaluationResult

LENGTH_SHARE = 0.05  # of answers that the limit of tokens cut: more of them is the first sign of a wrong prompt
COPY_RISE = 0.02  # of answers that are the last shot's, from few shots to many


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that asks for a second look.

    Args:
        task: Name of the task.
        text: What was seen and what it may mean.

    Example:
        >>> print("{0.task}: {0.text}".format(Finding(task="vqav2", text="4 shots score less than none")))
        vqav2: 4 shots score less than none
    """

    task: str
    text: str


def find_warnings(result: EvaluationResult) -> tuple[Finding, ...]:
    """Look at the curves and counts of a result.

    Few shots that score below none, the most shots below fewer, copying that rises with shots, answers that were cut,
    queries that lost shots or were not scored, and numbers of shots or controls that fewer queries were asked with.

    Args:
        result: What an evaluation found.

    Example:
        >>> from flamingo_blocks.evaluation.results import Cell
        >>> from flamingo_blocks.evaluation.score import Score
        >>> cells = [
        ...     Cell(task="t", shots=shots, seed=0, scores=(Score(variant="top-1", value=value),))
        ...     for shots, value in ((0, 50.0), (4, 45.0), (8, 60.0))
        ... ]
        >>> found = find_warnings(EvaluationResult(cells=tuple(cells), run={}, tasks={"t": {}}))
        >>> [finding.text for finding in found]
        ['4 shots score below 0 shots: 45.00 after 50.00. Look at the copy rates and the samples.']
    """
    summaries = summarise(result)
    found: list[Finding] = []
    for task in result.tasks:
        own = {each.shots: each for each in summaries if (each.task, each.control, each.place) == (task, OWN, 0)}
        cells = [cell for cell in result.cells if (cell.task, cell.control) == (task, OWN)]
        others = [cell for cell in result.cells if cell.task == task and not cell.control.startswith(BASELINE)]
        texts = [*_curve(own), *_copying(own), *_stopped(own), *_counted(cells), *_behind(cells), *_covered(others)]
        found += (Finding(task=task, text=text) for text in texts)
    return tuple(found)


def _curve(own: Mapping[int, Summary]) -> Iterator[str]:
    means = {shots: each.mean for shots, each in sorted(own.items()) if each.mean is not None}
    for shots, mean in means.items():
        if 0 < shots <= 4 and 0 in means and mean < means[0]:
            yield (
                f"{_shots(shots)} below 0 shots: {mean:.2f} after {means[0]:.2f}. "
                f"Look at the copy rates and the samples."
            )
    most = list(means)[-2:]
    if len(most) == 2 and most[0] > 0 and means[most[1]] < means[most[0]]:
        yield (
            f"{_shots(most[1])} below {most[0]} shots: {means[most[1]]:.2f} after {means[most[0]]:.2f}. "
            f"The prompt may be longer than the model was trained on."
        )


def _copying(own: Mapping[int, Summary]) -> Iterator[str]:
    rates = {shots: each.rates["copy_last"] for shots, each in sorted(own.items()) if "copy_last" in each.rates}
    if len(rates) > 1 and (last := max(rates)) > (first := min(rates)) and rates[last] - rates[first] > COPY_RISE:
        yield (
            f"Answers equal to the last shot's rise from {100 * rates[first]:.1f} % with {first} shots to "
            f"{100 * rates[last]:.1f} % with {last}: the model may copy rather than answer."
        )


def _stopped(own: Mapping[int, Summary]) -> Iterator[str]:
    shares = {shots: each.rates.get("stopped_by_length", 0.0) for shots, each in sorted(own.items())}
    many = {shots: share for shots, share in shares.items() if share > LENGTH_SHARE}
    if many:
        yield (
            f"With {_listed(many)} shots up to {100 * max(many.values()):.1f} % of the answers were cut by the limit "
            f"of tokens: the model does not end them, which is the first sign of a wrong prompt."
        )


def _counted(cells: Sequence[Cell]) -> Iterator[str]:
    lost = [cell for cell in cells if cell.counts.get("truncated")]
    if lost:
        most = max(lost, key=lambda cell: cell.counts["truncated"])
        yield (
            f"With {_listed({cell.shots for cell in lost})} shots up to {most.counts['truncated']} of "
            f"{most.counts.get('asked', 'all')} queries lost shots, for the prompt is longer than the model reads (out "
            f"of context): they were answered with fewer shots than asked for."
        )
    if missing := max((cell.counts.get("missing", 0) for cell in cells), default=0):
        yield f"{missing} queries were not asked, for their images or clips are missing."
    counted = [cell.counts for cell in cells if {"asked", "scored"} <= set(cell.counts)]
    if short := [counts for counts in counted if counts["scored"] < counts["asked"]]:
        least = min(short, key=lambda counts: counts["scored"])
        yield f"Not all that were asked were scored: {least['scored']} of {least['asked']} in the worst case."


def _behind(cells: Sequence[Cell]) -> Iterator[str]:
    """Shots and seeds with fewer queries than others, and what to ask for."""
    asked = {(cell.shots, cell.seed): cell.counts["asked"] for cell in cells if "asked" in cell.counts}
    most = max(asked.values(), default=0)
    if behind := [key for key, number in asked.items() if number < most]:
        shots, seeds = ({key[place] for key in behind} for place in (0, 1))
        yield (
            f"With {_listed(shots)} shots not all queries were asked that were asked otherwise: "
            f"{min(asked.values())} of {most}. {_again(shots, seeds, _chosen(cells))}"
        )


def _covered(cells: Sequence[Cell]) -> Iterator[str]:
    """Controls that were asked of fewer queries than the model was, for their differences are over those alone."""
    counted = [cell for cell in cells if "asked" in cell.counts]
    own = {(cell.shots, cell.seed): cell for cell in counted if cell.control == OWN}
    fewer: dict[tuple[int, str], list[Cell]] = {}
    for cell in counted:
        model = own.get((cell.shots, cell.seed))
        if model is not None and cell.counts["asked"] < model.counts["asked"]:
            fewer.setdefault((cell.shots, cell.control), []).append(cell)
    for (shots, control), some in sorted(fewer.items()):
        least = min(some, key=lambda cell: cell.counts["asked"])
        seeds = {cell.seed for cell in some}
        wanted = _again([shots], seeds, _chosen([own[shots, seed] for seed in seeds]), f"--controls {control} ")
        yield (
            f"With {shots} shots the control {control} covers fewer queries than the model's own score: "
            f"{least.counts['asked']} of {own[shots, least.seed].counts['asked']}. {wanted}"
        )


def _chosen(cells: Sequence[Cell]) -> int:
    """How many queries were chosen where most were asked, those without images among them."""
    return max(cell.counts["asked"] + cell.counts.get("missing", 0) for cell in cells if "asked" in cell.counts)


def _again(shots: Iterable[int], seeds: Iterable[int], queries: int, more: str = "") -> str:
    numbers = [",".join(map(str, sorted(some))) for some in (shots, seeds)]
    return f"Ask again with {more}--shots {numbers[0]} --seeds {numbers[1]} --queries {queries}, all else as it was."


def _listed(shots: Iterable[int]) -> str:
    """Numbers of shots in a sentence."""
    *most, last = map(str, sorted(shots))
    return f"{', '.join(most)} and {last}" if most else last


def _shots(number: int) -> str:
    return "1 shot scores" if number == 1 else f"{number} shots score"


def findings_of(findings: Iterable[Finding], task: str) -> list[str]:
    """The texts of one task.

    Args:
        findings: Of all tasks.
        task: Name of the task.
    """
    return [finding.text for finding in findings if finding.task == task]
