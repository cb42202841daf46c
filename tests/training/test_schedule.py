"""The schedule is a pure function of the step: it rises, stays and falls."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.training import warmup_hold_decay


@given(warmup=st.integers(1, 50), step=st.integers(0, 500))
def test_without_a_hold_the_factor_rises_and_stays(warmup, step):
    """The first step is not empty, the factor rises linearly, and is exactly 1 from the end of the warm-up on."""
    factor = warmup_hold_decay(warmup=warmup)
    assert factor(step) == min(1.0, (step + 1) / warmup)
    assert factor(0) > 0


@given(steps=st.integers(10, 500), hold=st.floats(0, 0.99), floor=st.floats(0, 0.5))
def test_the_fall_is_monotone_and_stops_at_the_floor(steps, hold, floor):
    """After the hold the factor never rises, and never is below the floor."""
    factor = warmup_hold_decay(warmup=1, steps=steps, hold=hold, floor=floor)
    values = [factor(step) for step in range(steps)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(values))
    assert min(values) >= floor
    assert values[-1] < 1


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
