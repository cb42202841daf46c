"""Does the model use its images? The differences to the controls, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from flamingo_blocks.evaluation.reports.summarise import BASELINE, OWN, Summary

IMAGE_CONTROLS = ("gates_closed", "blind", "swap_query_image")  # a model that scores as before looks at no query
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
    """

    control: str
    shots: int
    value: float
    low: float
    high: float


def differences_of(summaries: Sequence[Summary], task: str) -> list[Difference]:
    """The difference to each control with the most shots that it was asked with.

    Args:
        summaries: Of a result.
        task: Name of the task.
    """
    found: dict[str, Difference] = {}
    for each in summaries:  # by shots within a control: the last one stays
        if each.task == task and each.control != OWN and each.difference is not None:
            value, low, high = each.difference
            found[each.control] = Difference(control=each.control, shots=each.shots, value=value, low=low, high=high)
    return list(found.values())


def verdict(differences: Sequence[Difference]) -> str:
    """Whether the images are used, in a sentence.

    Args:
        differences: Of one task.

    Example:
        >>> verdict([Difference(control="blind", shots=4, value=9.5, low=7.0, high=12.0)])
        'Yes: without the image asked about the score is 9.50 lower (95 %: 7.00 to 12.00).'
    """
    asked = [each for each in differences if each.control in IMAGE_CONTROLS]
    if not asked:
        return f"Not asked: none of the controls {', '.join(IMAGE_CONTROLS)} was run."
    best = max(asked, key=lambda each: each.low)
    begin = WORDS[best.control][0]
    interval = f"(95 %: {best.low:.2f} to {best.high:.2f})"
    if best.low > 0:
        return f"Yes: {begin[0].lower()}{begin[1:]} the score is {best.value:.2f} lower {interval}."
    return f"Not shown: {begin[0].lower()}{begin[1:]} the difference is {best.value:.2f} {interval}."


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
    means = falls if low > 0 else "it does better so" if high < 0 else "no effect is shown"
    return f"{begin} it scores {told}: {means}."


def _above(low: float, high: float) -> str:
    if low > 0:
        return "the model is above it"
    return "the model is below it" if high < 0 else "no difference is shown"
