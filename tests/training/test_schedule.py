"""Schedules are pure functions of the step: they rise, stay and fall."""

import itertools
import math

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from flamingo_blocks.training.optim.schedule import cosine, exponential, warmup_hold_decay


@given(warmup=st.integers(1, 50), step=st.integers(0, 500))
def test_without_a_hold_the_factor_rises_and_stays(warmup, step):
    """The first step is not empty, the factor rises linearly, and is exactly 1 from the end of the warm-up on."""
    factor = warmup_hold_decay(warmup=warmup)
    assert factor(step) == min(1.0, (step + 1) / warmup)
    assert factor(0) > 0


@example(steps=10, hold=0.9375, floor=0.0)  # the hold ends inside the last step, which it covers
@given(steps=st.integers(10, 500), hold=st.floats(0, 0.99), floor=st.floats(0, 0.5))
def test_the_fall_is_monotone_and_stops_at_the_floor(steps, hold, floor):
    """After the hold the factor never rises, and never is below the floor."""
    factor = warmup_hold_decay(warmup=1, steps=steps, hold=hold, floor=floor)
    values = [factor(step) for step in range(steps)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert min(values) >= floor
    assert values[-1] < 1 or steps * hold > steps - 1 - 1e-6


@given(
    warmup=st.integers(0, 20), steps=st.integers(1, 50), hold=st.just(1.0) | st.floats(0, 1), behind=st.integers(0, 5)
)
def test_the_step_behind_the_last_has_a_factor(warmup, steps, hold, behind):
    """Torch's `LambdaLR` asks for it; a run that only holds stays where it has risen to."""
    last = warmup_hold_decay(warmup=warmup, steps=steps, hold=hold)(steps + behind)
    assert 0 <= last <= 1
    if hold == 1:
        assert last == warmup_hold_decay(warmup=warmup)(steps + behind)


def test_a_scheduler_of_torch_runs_to_the_end():
    """Every step of the run, and the one that it looks ahead."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, warmup_hold_decay(warmup=2, steps=3))
    for _ in range(3):
        optimiser.step()
        scheduler.step()
    assert scheduler.get_last_lr() == [1.0]


@pytest.mark.parametrize("steps", [0, -1])
@pytest.mark.parametrize("hold", [0.5, 1.0])
def test_a_run_has_a_step(steps, hold):
    """The error says how to do without a length."""
    with pytest.raises(ValueError, match=f"steps is {steps}, wanted 1 or more, or None"):
        warmup_hold_decay(warmup=1, steps=steps, hold=hold)


def test_a_fall_needs_the_length_of_the_run():
    """A hold below 1 without steps is refused, as is a hold that is no share."""
    with pytest.raises(ValueError, match=r"hold is 0\.5.*give steps"):
        warmup_hold_decay(warmup=1, hold=0.5)
    with pytest.raises(ValueError, match=r"hold is 1\.5"):
        warmup_hold_decay(warmup=1, hold=1.5)


@st.composite
def falls(draw):
    """A schedule that rises and falls, with the step at which it is 1, the first step of its floor, and the floor."""
    warmup, floor = draw(st.integers(0, 20)), draw(st.floats(0, 1))
    peak = max(warmup, 1) - 1
    if draw(st.booleans()):
        steps = draw(st.integers(peak + 1, 200))
        return cosine(warmup=warmup, steps=steps, floor=floor), peak, steps, floor
    every, decay = draw(st.integers(1, 50)), draw(st.floats(0.01, 1))
    return exponential(warmup=warmup, every=every, decay=decay, floor=floor), peak, None, floor


@given(fall=falls(), at=st.lists(st.integers(0, 250), min_size=1))
def test_a_fall_is_a_function_of_the_step_alone(fall, at):
    """In whatever order, and however often, it is asked: a run that resumes has the factors of its step."""
    factor, *_ = fall
    first = {step: factor(step) for step in range(251)}
    assert [factor(step) for step in at] == [first[step] for step in at]


@given(fall=falls())
def test_a_fall_rises_to_one_and_then_never_rises_nor_leaves_its_bounds(fall):
    """The rise is linear from a first step that is not empty; from its end on all is between the floor and 1."""
    factor, peak, end, floor = fall
    values = [factor(step) for step in range(251)]
    assert values[: peak + 1] == [(step + 1) / (peak + 1) for step in range(peak + 1)]
    assert all(floor <= value <= 1 for value in values[peak:])
    assert all(later <= earlier for earlier, later in itertools.pairwise(values[peak:]))
    if end is not None:
        assert all(value == floor for value in values[end:])


@given(warmup=st.integers(0, 20), length=st.integers(2, 200), floor=st.floats(0, 1))
def test_a_cosine_leaves_its_top_slowly(warmup, length, floor):
    """Continuous where the rise ends: the first step down is at most the curve's steepest, and no jump."""
    peak = max(warmup, 1) - 1
    factor = cosine(warmup=warmup, steps=peak + length, floor=floor)
    drops = [factor(peak + step) - factor(peak + step + 1) for step in range(length)]
    assert drops[0] <= (math.pi / length) ** 2 / 4 * (1 - floor) + 1e-12
    assert max(drops) <= math.pi / 2 * (1 - floor) / length + 1e-12
    assert factor(peak + length // 2) == pytest.approx((1 + floor) / 2) or length % 2


@given(warmup=st.integers(0, 20), every=st.integers(1, 50), decay=st.floats(0.01, 1))
def test_an_exponential_falls_by_one_share(warmup, every, decay):
    """Each step from the top has the same share of the one before, and so many steps make `decay`."""
    peak = max(warmup, 1) - 1
    factor = exponential(warmup=warmup, every=every, decay=decay)
    for step in range(peak, peak + 5):
        assert factor(step + 1) == pytest.approx(factor(step) * decay ** (1 / every))
    assert factor(peak + every) == pytest.approx(decay)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: cosine(warmup=-1, steps=5), "warmup is -1, wanted a number of steps, 0 or more"),
        (lambda: exponential(warmup=-1, every=5), "warmup is -1"),
        (lambda: cosine(warmup=0, steps=5, floor=1.5), r"floor is 1\.5, wanted a share"),
        (lambda: exponential(warmup=0, every=5, floor=float("nan")), "floor is nan, wanted a share"),
        (lambda: cosine(warmup=6, steps=5), "steps is 5 and warmup is 6"),
        (lambda: cosine(warmup=0, steps=0), "steps is 0 and warmup is 0"),
        (lambda: exponential(warmup=0, every=0), "every is 0, wanted the number of steps"),
        (lambda: exponential(warmup=0, every=1, decay=0.0), r"decay is 0\.0, wanted what is left"),
        (lambda: exponential(warmup=0, every=1, decay=1.5), r"decay is 1\.5, wanted what is left"),
    ],
)
def test_a_fall_that_is_none_is_refused(build, says):
    """The argument, what came, and what is wanted."""
    with pytest.raises(ValueError, match=says):
        build()
