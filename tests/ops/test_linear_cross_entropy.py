"""The chunked loss in each dtype, under autocast and checkpointing, its memory, and what it refuses."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy
from tests.memory import PeakBytes
from tests.shapes import Shapes


def make_case(generator, *, tokens=12, dim=16, vocab=40, dtype=torch.float32):
    hidden = torch.randn(tokens, dim, generator=generator).to(dtype).requires_grad_()
    weight = (torch.randn(vocab, dim, generator=generator) / dim**0.5).to(dtype)
    labels = torch.randint(0, vocab, (tokens,), generator=generator)
    labels[::5] = -100
    return hidden, weight, labels


def full_loss(hidden, weight, labels):
    return F.cross_entropy(F.linear(hidden, weight).float(), labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_loss_is_float32_and_close_to_that_of_all_logits(dtype, generator):
    """Value and gradient at a real vocabulary's size, frozen head, in float32 to 1e-5."""
    hidden, weight, labels = make_case(generator, tokens=96, dim=32, vocab=4000, dtype=dtype)
    loss, expected = linear_cross_entropy(hidden, weight, labels, chunk_size=20), full_loss(hidden, weight, labels)
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, atol=bound, rtol=bound)
    actual, wanted = (torch.autograd.grad(one, hidden)[0] for one in (loss, expected))
    assert actual.dtype == dtype
    assert (actual - wanted).abs().max() <= bound * wanted.abs().max()


def test_gradients_of_trained_weights_are_summed_in_float32(generator):
    """A weight in bfloat16 gets a gradient as close to the exact one as one rounding to bfloat16 allows."""
    hidden, weight, labels = make_case(generator, tokens=256, vocab=8, dtype=torch.bfloat16)
    weight.requires_grad_()
    actual = torch.autograd.grad(linear_cross_entropy(hidden, weight, labels, chunk_size=4), weight)[0].float()
    exact = weight.detach().double().requires_grad_()
    expected = torch.autograd.grad(F.cross_entropy(F.linear(hidden.detach().double(), exact), labels), exact)[0]
    assert actual.abs().max() > 0
    assert (actual - expected).abs().max() <= 1e-2 * expected.abs().max()


def test_autocast_rules_the_products_only(generator):
    """Under autocast the loss stays in float32, gradients in the dtype of what they belong to."""
    hidden, weight, labels = make_case(generator)
    weight.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, labels)
        expected = full_loss(hidden, weight, labels)
    assert loss.dtype == torch.float32
    assert not torch.equal(loss, linear_cross_entropy(hidden, weight, labels))
    torch.testing.assert_close(loss, expected, atol=2e-2, rtol=2e-2)
    actual, wanted = torch.autograd.grad(loss, (hidden, weight)), torch.autograd.grad(expected, (hidden, weight))
    for got, want in zip(actual, wanted, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, want, atol=2e-2, rtol=2e-2)


def test_two_forwards_before_a_backward_and_checkpointing_change_nothing(generator):
    """Gradients are those of each loss alone, bit for bit, recomputed or not."""
    hidden, weight, labels = make_case(generator)
    other, *_ = make_case(generator)

    def loss(x):
        return linear_cross_entropy(x.sin(), weight, labels, chunk_size=5)

    expected = [torch.autograd.grad(loss(x), x)[0] for x in (hidden, other)]
    losses = [checkpoint(loss, x, use_reentrant=False) for x in (hidden, other)]
    actual = torch.autograd.grad(losses[0] + losses[1], (hidden, other))
    assert all(map(torch.equal, actual, expected))


@pytest.mark.parametrize("power", [1, 2])
def test_a_second_derivative_is_refused(generator, power):
    """The gradient was made in the forward pass, so it has none itself: what depends on it, behind the loss or before
    it, would be wrong by that, and is refused.
    """
    hidden, weight, labels = make_case(generator)
    loss = linear_cross_entropy(hidden.sin(), weight, labels) ** power
    with pytest.raises(RuntimeError, match="which create_graph=True asks for"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def test_a_frozen_head_costs_no_gradient_and_masked_tokens_no_projection(generator):
    """Nothing of the weight's shape is made for a frozen head; logits exist for the tokens that count alone."""
    hidden, weight, labels = make_case(generator, tokens=20, vocab=41)
    with Shapes() as frozen:
        linear_cross_entropy(hidden, weight, labels).backward()
    assert (41, 16) not in frozen.seen
    assert {shape[0] for shape in frozen.seen if shape[1:] == (41,)} == {16}
    with Shapes() as trained:
        linear_cross_entropy(hidden, weight.requires_grad_(), labels).backward()
    assert (41, 16) in trained.seen


def test_memory_is_that_of_a_chunk(generator):
    """At 32k words the peak is at most 0.4 of what all logits take."""
    hidden, weight, labels = make_case(generator, tokens=1024, dim=16, vocab=32_000)
    with PeakBytes() as whole:
        full_loss(hidden, weight, labels).backward()
    with PeakBytes() as chunked:
        linear_cross_entropy(hidden, weight, labels).backward()
    assert whole.peak > 2 * 4 * 1024 * 32_000  # the meter sees logits and their logarithms at least
    assert chunked.peak <= 0.4 * whole.peak


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reduction": "none"}, "reduction is 'none'"),
        ({"chunk_size": 0}, "chunk_size is 0, wanted 1"),
        ({"labels": torch.zeros(5, dtype=torch.long)}, r"labels has shape \(5,\), hidden \(12, 16\)"),
        ({"weight": torch.zeros(40, 8)}, r"weight has shape \(40, 8\), wanted \[vocab 16\]"),
        ({"bias": torch.zeros(3)}, r"bias has the shapes \[\(3,\)\], wanted for each weight None or \[\(40,\)\]"),
        ({"labels": torch.full((12,), 40)}, "labels hold 40, wanted 0 to 39"),
        ({"labels": torch.full((12,), -1)}, "labels hold -1, wanted 0 to 39, or -100"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_what_is_refused(change, message, generator):
    """Each refusal names the argument, what it got and what it wants."""
    hidden, weight, labels = make_case(generator)
    arguments = {"hidden": hidden, "weight": weight, "labels": labels, **change}
    with pytest.raises(ValueError, match=message):
        linear_cross_entropy(**arguments)
