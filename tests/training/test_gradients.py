"""Gradients in one process: clipped as torch does it, left alone where they are not finite."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.training.ranks.gradients import averaged_over, clip_gradients, gradient_sync, sum_over_ranks
from tests.strategies import seeds


def parameters_with_gradients(seed, sizes):
    """One without a gradient among them."""
    noise = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.zeros(size)) for size in (*sizes, 3)]
    for parameter in parameters[:-1]:
        parameter.grad = torch.randn(parameter.shape, generator=noise)
    return parameters


def gradients(parameters):
    return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]


sizes = st.lists(st.integers(1, 5), max_size=4)
limits = st.floats(1e-6, 1e3) | st.just(math.inf)


@given(seed=seeds, sizes=sizes, limit=limits)
def test_plain_gradients_are_clipped_as_torch_clips_them(seed, sizes, limit):
    """To the last bit, norm and gradients."""
    ours, theirs = (parameters_with_gradients(seed, sizes) for _ in range(2))
    norm = clip_gradients(iter(ours), limit)
    assert torch.equal(norm, nn.utils.clip_grad_norm_(theirs, limit))
    assert all(map(torch.equal, gradients(ours), gradients(theirs)))


@given(seed=seeds, sizes=sizes.filter(len), limit=limits, bad=st.sampled_from([math.inf, -math.inf, math.nan]))
def test_gradients_that_are_not_finite_are_left_alone(seed, sizes, limit, bad):
    """Bit for bit, the finite ones too, and the norm tells it."""
    parameters = parameters_with_gradients(seed, sizes)
    parameters[seed % len(sizes)].grad[0] = bad
    before = gradients(parameters)
    assert not clip_gradients(parameters, limit).isfinite()
    for grad, expected in zip(gradients(parameters), before, strict=True):
        torch.testing.assert_close(grad, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("limit", [0.0, -1.0, 1e-7, math.nan])
def test_a_limit_that_would_leave_nothing_is_refused(limit):
    """The message names it."""
    with pytest.raises(ValueError, match=f"max_norm is {limit}, wanted 1e-06 or more"):
        clip_gradients([], limit)


def test_one_process_has_nothing_to_wait_for():
    """Sums are the tensor itself, means are over one, and every backward pass is as without."""
    model, values = nn.Linear(2, 1), torch.tensor([3, 4])
    assert sum_over_ranks(values) is values
    assert averaged_over(model) == 1
    with gradient_sync(model, last=False):
        model(torch.ones(1, 2)).sum().backward()
    assert torch.equal(model.weight.grad, torch.ones(1, 2))
