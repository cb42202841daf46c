"""Products that recompute instead of keeping give the values and gradients of the plain formulas."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.modules import module as modules

from flamingo_blocks.nn import FeedForward
from flamingo_blocks.ops.activated_projection import ACTIVATIONS, project_activated
from flamingo_blocks.ops.context_projection import project_context
from tests.strategies import heavy, make_resampler, seeds, tensor

leads = st.lists(st.integers(0, 3), max_size=2)


def gradients(outs, inputs):
    """Of a weighted sum of the outputs, for those inputs that take any."""
    total = sum((out * torch.arange(1, 1 + out.numel(), dtype=out.dtype).view(out.shape)).sum() for out in outs)
    wanted = [x for x in inputs if x is not None and x.requires_grad]
    return torch.autograd.grad(total, wanted, materialize_grads=True) if wanted else []


def close(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@heavy()
@given(
    leads, st.integers(0, 3), st.integers(1, 3), st.booleans(), st.lists(st.booleans(), min_size=6, max_size=6), seeds
)
def test_context_is_projected_as_written_out(lead, tokens, latents, has_bias, trained, seed):
    """Norm, join and project: the same keys, values and gradients, whichever inputs take a gradient."""
    noise = torch.Generator().manual_seed(seed)
    shapes = [(*lead, tokens, 4), (*lead, latents, 4), (4,), (4,), (3, 4), (3, 4)]
    inputs = [tensor(noise, *shape).requires_grad_(takes) for shape, takes in zip(shapes, trained, strict=True)]
    features, own, scale, offset, key_weight, value_weight = inputs
    if not has_bias:
        inputs[3] = offset = None
    outs = project_context(
        features, own, norm_weight=scale, norm_bias=offset, key_weight=key_weight, value_weight=value_weight
    )
    context = torch.cat([features * scale + (0 if offset is None else offset), own], dim=-2)
    expected = context @ key_weight.T, context @ value_weight.T
    close(outs, expected)
    close(gradients(outs, inputs), gradients(expected, inputs))


@heavy()
@given(leads, st.sampled_from(sorted(ACTIVATIONS)), st.lists(st.booleans(), min_size=3, max_size=3), seeds)
def test_activated_projection_is_as_written_out(lead, activation, trained, seed):
    """Activate, multiply and narrow: the same values and gradients, whichever inputs take a gradient."""
    noise = torch.Generator().manual_seed(seed)
    shapes = [(*lead, 2, 5), (*lead, 2, 5), (3, 5)]
    inputs = [tensor(noise, *shape).requires_grad_(takes) for shape, takes in zip(shapes, trained, strict=True)]
    hidden, factor, weight = inputs
    if activation != "swiglu":
        inputs[1] = factor = None
    out = project_activated(hidden, weight, activation=activation, factor=factor)
    expected = F.linear(ACTIVATIONS[activation](hidden) * (1 if factor is None else factor), weight)
    close([out], [expected])
    close(gradients([out], inputs), gradients([expected], inputs))


@pytest.mark.parametrize("features_grad", [False, True], ids=["frozen", "trained"])
def test_second_derivatives_are_right(features_grad, generator):
    """A gradient penalty can be taken through both products."""
    shapes = [(2, 2, 3), (2, 1, 3), (3,), (3,), (2, 3), (2, 3)]
    inputs = [tensor(generator, *shape).requires_grad_() for shape in shapes]
    inputs[0].requires_grad_(features_grad)

    def projected(features, own, scale, offset, key_weight, value_weight):
        weights = {"key_weight": key_weight, "value_weight": value_weight}
        return project_context(features, own, norm_weight=scale, norm_bias=offset, **weights)

    assert torch.autograd.gradgradcheck(projected, inputs)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("multiplied", [False, True])
def test_second_derivatives_of_each_activation_are_right(activation, multiplied, generator):
    """A gradient penalty can be taken through whatever a feed-forward layer is built with."""
    hidden, factor, weight = (tensor(generator, *shape).requires_grad_() for shape in ((2, 3), (2, 3), (4, 3)))

    def projected(hidden, weight, factor=None):
        return project_activated(hidden, weight, activation=activation, factor=factor)

    inputs = (hidden, weight, factor) if multiplied else (hidden, weight)
    assert torch.autograd.gradcheck(projected, inputs)
    assert torch.autograd.gradgradcheck(projected, inputs)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_lone_token_has_the_gradients_of_a_row_of_one(activation, generator, assert_close):
    """Tokens may come without any leading axis."""
    feed_forward = FeedForward(8, activation=activation).double()
    x = tensor(generator, 8).requires_grad_()
    inputs = [x, *feed_forward.parameters()]
    alone = torch.autograd.grad(feed_forward(x).sum(), inputs)
    for ours, theirs in zip(alone, torch.autograd.grad(feed_forward(x[None]).sum(), inputs), strict=True):
        assert_close(ours, theirs)


OPTIONS = {"vision_dim": 8, "dim": 8, "num_latents": 3, "depth": 2, "num_heads": 2, "head_dim": 4, "max_frames": 0}


@pytest.mark.parametrize("norm", ["layer_norm", "rms_norm"])
def test_features_of_a_frozen_tower_give_the_weights_the_same_gradients(norm, generator, assert_close):
    """Whether the patches take a gradient themselves changes none of the resampler's."""
    resampler = make_resampler(OPTIONS | {"norm": norm}, 0)
    vision, cotangent = tensor(generator, 2, 1, 5, 8), tensor(generator, 2, 3, 8)
    weights = list(resampler.parameters())
    frozen = torch.autograd.grad(resampler(vision), weights, cotangent)
    trained = torch.autograd.grad(resampler(vision.clone().requires_grad_()), weights, cotangent)
    for ours, theirs in zip(frozen, trained, strict=True):
        assert_close(ours, theirs)


class Adapted(nn.Module):
    """A linear layer with something added to it, as adapters do."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear, self.calls = linear, 0

    def forward(self, x):
        self.calls += 1
        return 2 * self.linear(x)


@pytest.mark.parametrize("name", ["k_proj", "v_proj"])
def test_an_adapter_on_a_projection_is_called(name, generator, assert_close):
    """A layer that somebody has replaced computes as the replacement does."""
    resampler, twice = make_resampler(OPTIONS, 0), make_resampler(OPTIONS, 0)
    layer = resampler.layers[0]
    setattr(layer, name, Adapted(getattr(layer, name)))
    with torch.no_grad():
        getattr(twice.layers[0], name).weight.mul_(2)
    vision = tensor(generator, 2, 1, 5, 8)
    assert_close(resampler(vision), twice(vision))
    assert getattr(layer, name).calls == 1


def test_a_hook_on_the_last_projection_is_called(generator):
    """Hooks on a linear layer run, in training too."""
    feed_forward = FeedForward(8)
    seen = []
    feed_forward.down_proj.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    feed_forward(tensor(generator, 2, 8, dtype=torch.float32))
    assert seen == [(2, 8)]


GLOBAL_HOOKS = {
    "forward": modules.register_module_forward_hook,
    "before": modules.register_module_forward_pre_hook,
    "backward": modules.register_module_full_backward_hook,
    "before backward": modules.register_module_full_backward_pre_hook,
}


@pytest.mark.parametrize("kind", GLOBAL_HOOKS)
def test_a_hook_on_all_modules_sees_the_last_projection(kind, generator):
    """Profilers and debuggers hook every module at once, and miss none in training."""
    feed_forward, seen = FeedForward(8), []
    handle = GLOBAL_HOOKS[kind](lambda layer, *_: seen.append(layer))
    try:
        feed_forward(tensor(generator, 2, 8, dtype=torch.float32).requires_grad_()).sum().backward()
    finally:
        handle.remove()
    assert any(layer is feed_forward.down_proj for layer in seen)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_autocast_gives_the_gradients_of_linear_layers(activation, generator):
    """Under autocast values and gradients are near those of the same layers called one by one."""
    feed_forward = FeedForward(8, activation=activation)
    x = tensor(generator, 5, 8, dtype=torch.float32).requires_grad_()
    plain = FeedForward(8, activation=activation)
    plain.load_state_dict(feed_forward.state_dict())
    plain.down_proj.register_forward_hook(lambda *_: None)  # calls the layer itself
    results = []
    for module in (feed_forward, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = module(x)
        results.append([out, *torch.autograd.grad(out.float().sum(), [x, *module.parameters()])])
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)


def test_per_sample_gradients_can_be_taken(generator, assert_close):
    """`torch.func.vmap` of `grad` runs through both products and gives each sample's own gradients."""
    samples = tensor(generator, 3, 2, 4)
    weights = {"key_weight": tensor(generator, 3, 4), "value_weight": tensor(generator, 3, 4)}

    def loss(weights, x):
        key, value = project_context(x, x, norm_weight=x[0], norm_bias=None, **weights)
        return project_activated(key * value, weights["key_weight"].T, activation="squared_relu").square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, samples)
    for name, grad in each.items():
        for sample, ours in zip(samples, grad, strict=True):
            assert_close(ours, torch.func.grad(loss)(weights, sample)[name])
