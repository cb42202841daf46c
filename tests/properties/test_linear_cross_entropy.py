"""The loss in chunks is the loss of all logits, in value and in every gradient."""

import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks.ops.linear_cross_entropy import linear_cross_entropy
from flamingo_blocks.ops.next_token_loss import IGNORED, next_token_loss, shifted_labels
from tests.strategies import seeds

DIM = 5


class Unread(Tensor):
    """Labels whose values may not be read on the way, as on a GPU: what does not count is masked, not left out."""


@st.composite
def heads(draw):
    """One to three tables side by side, each frozen or trained, with a bias or without."""
    sizes = st.tuples(st.integers(1, 6), st.booleans(), st.sampled_from([None, False, True]))
    return draw(st.lists(sizes, min_size=1, max_size=3))


def make_case(head, shape, seed):
    noise = torch.Generator().manual_seed(seed)

    def random(*size, trained):
        return torch.randn(*size, generator=noise, dtype=torch.float64).requires_grad_(trained)

    tables = [random(size, DIM, trained=trained) for size, trained, _ in head]
    biases = [None if bias is None else random(size, trained=bias) for size, _, bias in head]
    vocab = sum(size for size, _, _ in head)
    labels = torch.randint(0, vocab, shape, generator=noise)
    labels[torch.rand(shape, generator=noise) < 0.4] = IGNORED
    return random(*shape, DIM, trained=True), tables, biases, labels


def all_logits(hidden, tables, biases):
    return torch.cat([F.linear(hidden, *pair) for pair in zip(tables, biases, strict=True)], dim=-1)


def gradients(loss, *tensors):
    trained = [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    return torch.autograd.grad(loss, trained, allow_unused=True)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 5)) | st.sampled_from([(0, 3), (2, 0), (7,), (2, 2, 3)])
HEAD = [(4, True, True), (2, False, None), (3, True, False)]


@example(head=HEAD, shape=(3, 5), chunk=2, mean=True, unread=False, z_loss=0.0, seed=0)
@example(head=HEAD, shape=(3, 5), chunk=4, mean=False, unread=True, z_loss=0.5, seed=0)
@given(heads(), shapes, st.integers(1, 7) | st.none(), st.booleans(), st.booleans(), st.sampled_from([0, 0.5]), seeds)
def test_chunks_give_the_loss_and_gradients_of_all_logits(head, shape, chunk, mean, unread, z_loss, seed):
    """Whatever is trained, frozen or biased, whatever the chunk is, and wherever the labels lie."""
    hidden, tables, biases, labels = make_case(head, shape, seed)
    scores = all_logits(hidden, tables, biases).flatten(0, -2)
    total = F.cross_entropy(scores, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    total = total + z_loss * scores.logsumexp(1)[labels.flatten() != IGNORED].square().sum()
    expected = total / (labels != IGNORED).sum().clamp(min=1) if mean else total
    given_labels = labels.as_subclass(Unread) if unread else labels
    loss = linear_cross_entropy(
        hidden, tables, given_labels, bias=biases, chunk_size=chunk, reduction="mean" if mean else "sum", z_loss=z_loss
    )
    torch.testing.assert_close(loss.as_subclass(Tensor), expected, atol=1e-9, rtol=1e-9)
    leaves = (hidden, *tables, *biases)
    for actual, wanted in zip(gradients(3 * loss, *leaves), gradients(3 * expected, *leaves), strict=True):
        torch.testing.assert_close(actual, wanted, atol=1e-9, rtol=1e-9)


@example(head=HEAD, shape=(3, 5), unread=True, seed=0)
@given(heads(), shapes, st.booleans(), seeds)
def test_what_does_not_count_may_hold_anything(head, shape, unread, seed):
    """NaN in the hidden states of tokens without a label reaches neither the loss nor any gradient."""
    hidden, tables, biases, labels = make_case(head, shape, seed)
    bad = hidden.detach().clone()
    bad[labels == IGNORED] = float("nan")
    bad.requires_grad_()
    expected = linear_cross_entropy(hidden, tables, labels, bias=biases)
    loss = linear_cross_entropy(bad, tables, labels.as_subclass(Unread) if unread else labels, bias=biases)
    torch.testing.assert_close(loss.as_subclass(Tensor), expected, atol=1e-12, rtol=1e-12)
    actual = gradients(loss, bad, *tables, *biases)
    for got, wanted in zip(actual, gradients(expected, hidden, *tables, *biases), strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-12, rtol=1e-12)


@given(heads(), st.tuples(st.integers(1, 3), st.integers(1, 5)), seeds)
def test_hidden_states_and_shifted_labels_give_the_next_token_loss(head, shape, seed):
    """The two ways to the loss of a language model agree on which label counts where."""
    hidden, tables, biases, labels = make_case(head, shape, seed)
    loss = linear_cross_entropy(hidden, tables, shifted_labels(labels), bias=biases)
    expected = next_token_loss(all_logits(hidden, tables, biases), labels)
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)


@given(st.booleans(), seeds)
def test_without_a_label_that_counts_all_is_zero(unread, seed):
    """The loss is exactly zero, and so is every gradient; a trained table still gets one."""
    hidden, tables, biases, labels = make_case([(4, True, True), (2, True, None)], (2, 3), seed)
    labels = torch.full_like(labels, IGNORED)
    loss = linear_cross_entropy(hidden, tables, labels.as_subclass(Unread) if unread else labels, bias=biases)
    assert loss.item() == 0
    found = gradients(loss, hidden, *tables, *biases)
    assert len(found) == 4
    assert all(not gradient.any() for gradient in found)
