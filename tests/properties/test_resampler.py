"""Laws 5, 6, 11 and 14 for the resampler, which is also held to plain loops in every option."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.oracle import naive_resampler
from tests.strategies import heavy, make_resampler, resampler_options, seeds, tensor

BAD = st.sampled_from([float("nan"), float("inf"), float("-inf")])


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)


def gradients(out: Tensor, cotangent: Tensor, module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(out, [*inputs, *module.parameters()], cotangent))


clips = st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 3))  # items frames patches


def vision_of(shape: tuple[int, int, int], options, seed: int, *, masked: bool) -> tuple[Tensor, Tensor | None]:
    noise = torch.Generator().manual_seed(seed + 1)
    vision = tensor(noise, *shape, options["vision_dim"])
    return vision, torch.rand(shape, generator=noise) < 0.6 if masked else None


@heavy()
@given(clips, resampler_options(), seeds, st.booleans())
def test_resampler_is_the_loops_in_every_option(shape, options, seed, masked):
    """Each option computes what its formula says, with patches that do not count cut out beforehand."""
    resampler = make_resampler(options, seed)
    vision, valid = vision_of(shape, options, seed, masked=masked)
    expected = naive_resampler(
        resampler.state_dict(),
        vision,
        num_heads=options["num_heads"],
        depth=options["depth"],
        activation=options["activation"],
        valid=valid,
    )
    close(resampler(vision, valid), expected)


@heavy()
@given(st.lists(st.integers(0, 3), max_size=3), st.integers(0, 4), st.integers(0, 4), resampler_options(), seeds)
def test_resampler_shape_ignores_frames_and_patches(lead, frames, patches, options, seed):
    """However many frames and patches come, each item leaves as `num_latents` tokens of width `dim`."""
    resampler = make_resampler(options, seed)
    out = resampler(torch.zeros(*lead, frames, patches, options["vision_dim"], dtype=torch.float64))
    assert out.shape == (*lead, options["num_latents"], options["dim"])


@heavy()
@given(clips, resampler_options(), seeds, st.booleans())
def test_resampler_treats_items_one_by_one(shape, options, seed, masked):
    """Permuting items permutes the outputs, and an item comes out as it does alone."""
    resampler = make_resampler(options, seed)
    vision, valid = vision_of(shape, options, seed, masked=masked)
    out = resampler(vision, valid)
    order = torch.arange(shape[0]).flip(0)
    close(resampler(vision[order], None if valid is None else valid[order]), out[order])
    for item in range(shape[0]):
        close(resampler(vision[item], None if valid is None else valid[item]), out[item])


@heavy()
@given(clips, resampler_options(), seeds, BAD)
def test_patches_that_do_not_count_have_no_influence(shape, options, seed, bad_value):
    """What stands in a masked patch, NaN included, changes neither the tokens nor any gradient."""
    vision, valid = vision_of(shape, options, seed, masked=True)
    cotangent = tensor(torch.Generator().manual_seed(seed), shape[0], options["num_latents"], options["dim"])
    results = []
    for spoilt in (False, True):
        resampler = make_resampler(options, seed)
        leaf = (vision.masked_fill(~valid[..., None], bad_value) if spoilt else vision.clone()).requires_grad_()
        out = resampler(leaf, valid)
        results.append([out, *gradients(out, cotangent, resampler, leaf)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        assert torch.equal(ours, theirs)
    assert (results[1][1][~valid] == 0).all()


@heavy()
@given(clips, resampler_options(), seeds, st.integers(0, 4), st.integers(0, 2))
def test_padded_frames_and_patches_change_nothing(shape, options, seed, more_frames, more_patches):
    """A clip padded to the longest of its batch comes out as it does alone, beyond `max_frames` too."""
    resampler = make_resampler(options, seed)
    vision, _ = vision_of(shape, options, seed, masked=False)
    size = (shape[0], shape[1] + more_frames, shape[2] + more_patches)
    padded = torch.full((*size, options["vision_dim"]), float("nan"), dtype=torch.float64)
    padded[:, : shape[1], : shape[2]] = vision
    valid = torch.zeros(size, dtype=torch.bool)
    valid[:, : shape[1], : shape[2]] = True
    close(resampler(padded, valid), resampler(vision))


@heavy()
@given(st.integers(0, 2), st.integers(1, 4), resampler_options(), seeds)
def test_resampler_without_items_gives_every_weight_a_gradient(items, frames, options, seed):
    """A text-only batch has an empty pool: the resampler runs on it, and no weight is left out."""
    resampler = make_resampler(options, seed)
    vision, _ = vision_of((items, frames, 2), options, seed, masked=False)
    resampler.zero_grad()
    resampler(vision).sum().backward()
    assert all(weight.grad is not None for weight in resampler.parameters())


@heavy()
@given(clips, resampler_options(), seeds, st.booleans())
def test_checkpointed_resampler_has_the_same_gradients(shape, options, seed, masked):
    """Recomputing in the backward pass changes no loss and no gradient, two forwards before one backward included."""
    vision, valid = vision_of(shape, options, seed, masked=masked)
    cotangent = tensor(torch.Generator().manual_seed(seed), shape[0], options["num_latents"], options["dim"])
    results = []
    for checkpointing in (False, True):
        resampler = make_resampler(options, seed, activation_checkpointing=checkpointing)
        leaf = vision.clone().requires_grad_()
        out = resampler(leaf, valid) + resampler(leaf * 2, valid)
        results.append([out, *gradients(out, cotangent, resampler, leaf)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        close(ours, theirs)
