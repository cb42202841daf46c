"""What decides an evaluation."""

from dataclasses import dataclass
from typing import Literal

from flamingo_blocks.errors import EvaluationError
from flamingo_blocks.evaluation.controls import DEFAULT_CONTROLS, find_control
from flamingo_blocks.evaluation.prompts import find_profile

Selection = Literal["random", "rices"]


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """What decides an evaluation: the same settings on the same files give the same predictions on any machine.

    Args:
        shots: Numbers of shots.
        seeds: Each draws other shots; of `selection="rices"`, which draws none, the first is asked.
        profile: Prompt, clean-up and decoding: `"paper"` or `"open_flamingo"`.
        controls: Controls that are asked beside the model's own score.
        control_shots: Numbers of shots that the controls are asked with; the largest by default.
        selection: `"random"`: shots drawn by hash, one draw for a group of queries. `"rices"`: those whose images are
            most like the query's, nearest last. Episodes keep the shots that are their own in any case.
        groups: Groups that the queries fall into, each with a draw of its own: 1 is one prompt for all, None a draw for
            each query as in OpenFlamingo. The expected score is the same; a group's prompt runs once.
        balanced: Whether shots show each class as often as any other, of tasks that have classes.
        ensemble: Orders of the shots that a closed task is asked with and averaged over; 6 in the paper.
        text_shots: Shots in text alone that stand for none, at 0 shots; the profile's by default: two for open tasks.
        num_queries: Queries that are asked, the smallest hashes first; all by default.
        num_beams: Beams of open tasks; the profile's by default.
        max_new_tokens: Most tokens that are written; the task's or the profile's by default.
        max_missing: Share of queries whose image or clip may be missing before the run fails.
        share: Whether a prompt of shots runs once for all of its queries. `"auto"`: where the first queries show that
            it changes nothing.
        memory_bytes: What caches and logits may take beside the model.
        media_bytes: What encoded images may take; those that do not fit are encoded again when they are shown again.
        max_rows: Most queries at once; as many as memory allows by default.
        bootstrap: Resamples behind each interval.

    Raises:
        EvaluationError: If a value is none that can be meant.

    Example:
        >>> EvalConfig(shots=(0, 4), seeds=(0,)).shots
        (0, 4)
    """

    shots: tuple[int, ...] = (0, 4, 8, 16, 32)
    seeds: tuple[int, ...] = (0, 1, 2)
    profile: str = "paper"
    controls: tuple[str, ...] = DEFAULT_CONTROLS
    control_shots: tuple[int, ...] | None = None
    selection: Selection = "random"
    groups: int | None = 64
    balanced: bool = False
    ensemble: int = 1
    text_shots: int | None = None
    num_queries: int | None = None
    num_beams: int | None = None
    max_new_tokens: int | None = None
    max_missing: float = 0.0
    share: bool | Literal["auto"] = "auto"
    memory_bytes: int = 2 << 30
    media_bytes: int = 1 << 30
    max_rows: int | None = None
    bootstrap: int = 1000

    def __post_init__(self) -> None:
        for name, least in (("shots", 0), ("seeds", 0), ("control_shots", 0)):
            _check_numbers(name, getattr(self, name) or (), least, empty=name == "control_shots")
        for name, least in (
            ("groups", 1), ("ensemble", 1), ("text_shots", 0), ("num_queries", 1), ("num_beams", 1),
            ("max_new_tokens", 1), ("memory_bytes", 1), ("media_bytes", 1), ("max_rows", 1), ("bootstrap", 0),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise EvaluationError(f"{name} is {value!r}, wanted a whole number, {least} or more")
        if not 0 <= self.max_missing <= 1:
            raise EvaluationError(f"max_missing is {self.max_missing}, wanted a share from 0 to 1")
        if self.selection not in ("random", "rices"):
            raise EvaluationError(f'selection is {self.selection!r}, wanted "random" or "rices"')
        if self.share not in (True, False, "auto"):
            raise EvaluationError(f'share is {self.share!r}, wanted True, False or "auto"')
        if unknown := sorted(set(self.control_shots or ()) - set(self.shots)):
            raise EvaluationError(
                f"control_shots has {unknown}, which shots {list(self.shots)} has not; add them there"
            )
        find_profile(self.profile)
        for control in self.controls:
            if find_control(control).name == "none":
                raise EvaluationError("controls has 'none', which is always asked; leave it out")

    def shots_of(self, control: str) -> tuple[int, ...]:
        """Numbers of shots that a control is asked with.

        Args:
            control: Its name; `"none"` for the model's own score.
        """
        if control == "none":
            return self.shots
        chosen = (max(self.shots),) if self.control_shots is None else self.control_shots
        return tuple(shots for shots in chosen if shots >= find_control(control).min_shots)


def _check_numbers(name: str, values: tuple[int, ...], least: int, *, empty: bool) -> None:
    if not values and not empty:
        raise EvaluationError(f"{name} is empty, wanted one number at least")
    if wrong := [value for value in values if value < least]:
        raise EvaluationError(f"{name} has {wrong[0]!r}, wanted whole numbers, {least} or more")
    if len(set(values)) < len(values):
        raise EvaluationError(f"{name} is {list(values)}, which names a number twice; name each once")
