"""The differences to the controls and the baselines, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from flamingo_blocks.evaluation.reports.summarise import BASELINE, OWN, Summary

NOTHING = 0.005  # a score below it is printed as 0.00: none of it can be lost
# What each control does, and what is shown when the score falls under it.
WORDS = {
    "gates_closed": ("With its gates closed, so that it sees no image,", "it uses its images"),
    "blind": ("Without the image asked about", "it looks at the image asked about"),
    "swap_query_image": ("With another image in the query", "it looks at the image asked about"),
    "text_only": ("With the shots as text alone", "the images of the shots help"),
    "no_shot_images": ("With blank images in the shots", "it looks at the images of the shots"),
    "shuffle_images": ("With the images of the shots exchanged", "it ties the images of the shots to their texts"),
    "shuffle_labels": ("With the answers of the shots exchanged", "it learns from the answers of the shots"),
    "shuffle_order": ("With the shots in another order", "the order of the shots matters"),
}


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How far the model's own score stands above that of a control.

    Args:
        control: Name of the control.
        shots: Number of shots.
        value: Own score less the control's.
        low: Lower end of the 95 % interval.
        high: Upper end.
        floor: Why nothing could be lost, so that no difference says nothing; "" where something could.
    """

    control: str
    shots: int
    value: float
    low: float
    high: float
    floor: str = ""


def differences_of(summaries: Sequence[Summary], task: str) -> list[Difference]:
    """The difference to each control with the most shots that it was asked with.

    Args:
        summaries: Of a result.
        task: Name of the task.
    """
    found: dict[str, Difference] = {}
    above = _above_baselines(summaries, task)
    for each in summaries:  # by shots within a control: the last one stays
        if each.task == task and each.control != OWN and each.difference is not None:
            value, low, high = each.difference
            floor = "" if each.control.startswith(BASELINE) else _floor(each, above.get(each.shots))
            found[each.control] = Difference(
                control=each.control, shots=each.shots, value=value, low=low, high=high, floor=floor
            )
    return list(found.values())


def _above_baselines(summaries: Sequence[Summary], task: str) -> dict[int, tuple[float, str]]:
    """How far the own score stands above the best baseline, and its name, by number of shots."""
    found: dict[int, tuple[float, str]] = {}
    for each in summaries:
        if each.task == task and each.control.startswith(BASELINE) and each.difference is not None:
            least = (each.difference[0], each.control.removeprefix(BASELINE))
            found[each.shots] = min(least, found.get(each.shots, least))
    return found


def _floor(control: Summary, above: tuple[float, str] | None) -> str:
    """Why nothing of the own score, on the queries that a control was asked, could be lost."""
    assert control.mean is not None
    assert control.difference is not None
    if control.mean + control.difference[0] < NOTHING:
        return "the score is at 0"
    if above is not None and above[0] < NOTHING:
        return f"the score does not stand above the baseline {above[1]}, which answers without a model"
    return ""


def sentence(difference: Difference) -> str:
    """What the difference to one control says.

    Args:
        difference: Own score less the control's.

    Example:
        >>> sentence(Difference(control="shuffle_labels", shots=4, value=0.5, low=-1.0, high=2.0))
        'With the answers of the shots exchanged it scores 0.50 less with 4 shots (95 %: -1.00 to 2.00): no effect is \
shown.'
    """
    value, low, high = difference.value, difference.low, difference.high
    more, ends = ("less", (low, high)) if value >= 0 else ("more", (0.0 - high, 0.0 - low))  # never -0.0
    told = f"{abs(value):.2f} {more} with {difference.shots} shots (95 %: {ends[0]:.2f} to {ends[1]:.2f})"
    if difference.control.startswith(BASELINE):
        name = difference.control.removeprefix(BASELINE)
        return f"The baseline {name} scores {told} without a model: {_above(low, high)}."
    begin, falls = WORDS.get(difference.control, (f"Under the control {difference.control}", "it matters"))
    means = falls if low > 0 else "it does better so" if high < 0 else _no_effect(difference)
    return f"{begin} it scores {told}: {means}."


def _no_effect(difference: Difference) -> str:
    return f"this says nothing, for {difference.floor}" if difference.floor else "no effect is shown"


def _above(low: float, high: float) -> str:
    if low > 0:
        return "the model is above it"
    return "the model is below it" if high < 0 else "no difference is shown"
