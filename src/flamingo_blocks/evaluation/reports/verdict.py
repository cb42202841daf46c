"""Does the model use its images, and which? One sentence for each task."""

from collections.abc import Iterable, Sequence

from flamingo_blocks.evaluation.reports.image_use import WORDS, Difference
from flamingo_blocks.evaluation.reports.server_files import SERVER_FORMATS
from flamingo_blocks.evaluation.reports.summarise import OWN
from flamingo_blocks.evaluation.results import Cell

# A score that falls under one of them was due to images: which ones, as the sentence says it; "" where to any.
IMAGES = {
    "gates_closed": "",
    "text_only": "those of the shots",
    "no_shot_images": "those of the shots",
    "shuffle_images": "those of the shots",
    "blind": "that of the query",
    "swap_query_image": "that of the query",
}
FEW = 30  # queries below which their number stands beside the verdict


def verdict(task: str, cells: Iterable[Cell], differences: Sequence[Difference]) -> str:
    """Whether the images are used, and which, in a sentence or two.

    Args:
        task: Name of the task.
        cells: Of a result.
        differences: Of the task.

    Example:
        >>> verdict("vqav2", [], [Difference(control="blind", shots=4, value=9.5, low=7.0, high=12.0)])
        'Yes, that of the query: without the image asked about the score is 9.50 lower (95 %: 7.00 to 12.00).'
    """
    own = [cell for cell in cells if cell.task == task]
    asked = [each for each in differences if each.control in IMAGES]
    if not asked:
        return _unasked(task, own)
    best: dict[str, Difference] = {}
    for each in sorted(asked, key=lambda each: each.low):  # the surest stays
        if each.low > 0:
            best[IMAGES[each.control]] = each
    named = [place for place in dict.fromkeys(IMAGES.values()) if place and place in best]
    if best:
        shown = [best[place] for place in named or [""]]
        return f"Yes{', ' if named else ''}{' and '.join(named)}: {_lower(shown)}.{_few(own, shown)}"
    open_ones = [each for each in asked if not each.floor]
    surest = max(open_ones or asked, key=lambda each: each.low)
    if surest.floor:
        return f"Cannot be told: with {_shots(surest.shots)} {surest.floor}.{_few(own, [surest])}"
    told = f"{_begin(surest)} the difference is {surest.value:.2f} {_interval(surest)}"
    return f"Not shown: {told}.{_few(own, [surest])}"


def _unasked(task: str, cells: Sequence[Cell]) -> str:
    """Why there is no difference to any control."""
    if cells and all(_is_unanswered(cell) for cell in cells):
        how = "; export what was answered for the server that scores it (--rescore DIR --export FILE)"
        return f"Cannot be said: this split has no public answers{how if task in SERVER_FORMATS else ''}."
    ran = [control for control in IMAGES if any(cell.control == control for cell in cells)]
    if not ran:
        return f"Not asked: none of the controls {', '.join(IMAGES)} was run."
    if all(cell.scores[0].value is None for cell in cells if cell.control in (OWN, *ran)):
        return "Cannot be said: the queries that were asked have no score; see what was counted."
    return f"Cannot be said: no interval of a difference to {', '.join(ran)} was drawn."


def _is_unanswered(cell: Cell) -> bool:
    """Whether no query has an answer that is known; a metric may have no value for other reasons."""
    counts = cell.counts
    if "ranked" in counts:  # options that are ranked: neither how fitting they are is known, nor which is right
        none = not any(counts.get(name) for name in ("scored", "ranked", "nothing_relevant"))
    else:
        none = 0 < counts.get("without_answers", 0) >= counts.get("asked", 0)
    return cell.scores[0].value is None and none


def _lower(shown: Sequence[Difference]) -> str:
    first, *others = (f"{_begin(each)} {{}}{each.value:.2f} lower {_interval(each)}" for each in shown)
    return ", ".join([first.format("the score is "), *(other.format("") for other in others)])


def _begin(difference: Difference) -> str:
    begin = WORDS[difference.control][0]
    return f"{begin[0].lower()}{begin[1:]}"


def _interval(difference: Difference) -> str:
    return f"(95 %: {difference.low:.2f} to {difference.high:.2f})"


def _shots(number: int) -> str:
    return "1 shot" if number == 1 else f"{number} shots"


def _few(cells: Sequence[Cell], shown: Sequence[Difference]) -> str:
    """How many queries were compared, where they are few."""
    pairs = {(each.control, each.shots) for each in shown} | {(OWN, each.shots) for each in shown}
    counts = [cell.counts for cell in cells if (cell.control, cell.shots) in pairs]
    numbers = [each.get("scored", each.get("asked", FEW)) for each in counts]
    least = min(numbers, default=FEW)
    return f" Only {least} {'query was' if least == 1 else 'queries were'} compared." if least < FEW else ""
