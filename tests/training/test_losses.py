"""Which labels count, and the mean over them."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import IGNORED, flamingo_loss, make_labels, next_token_loss
from flamingo_blocks.training.losses import flamingo_loss_sum
from tests.flamingos import EXAMPLE_ROWS, NEW_TAG, make_batch, make_flamingo, text_rows
from tests.strategies import heavy, seeds


@given(seed=st.integers(0, 10**6), batch=st.integers(1, 3), text=st.integers(2, 6))
def test_the_loss_is_the_mean_over_labels_that_count(seed, batch, text):
    """Each token is scored by the logits before it, and the mean is over the labels that are not ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, text, 7, generator=generator)
    labels = torch.randint(0, 7, (batch, text), generator=generator)
    labels[torch.rand(batch, text, generator=generator) < 0.3] = IGNORED
    each = [
        F.cross_entropy(logits[row, place - 1], labels[row, place])
        for row in range(batch)
        for place in range(1, text)
        if labels[row, place] != IGNORED
    ]
    expected = torch.stack(each).mean() if each else torch.tensor(0.0)
    torch.testing.assert_close(next_token_loss(logits, labels), expected)


def test_without_a_label_that_counts_the_loss_is_zero_and_has_a_gradient():
    """A batch without labels gives an exact zero and zero gradients, not NaN."""
    logits = torch.randn(1, 3, 5, requires_grad=True)
    loss = next_token_loss(logits, torch.full((1, 3), IGNORED))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_labels_leave_out_ignored_tokens_and_padding():
    """Tokens that are never to be predicted and padding become -100; the ids stay as they were."""
    ids = torch.tensor([[1, 9, 2, 0]])
    labels = make_labels(ids, ignored_ids=[9], attention_mask=torch.tensor([[True, True, True, False]]))
    assert labels.tolist() == [[1, IGNORED, 2, IGNORED]]
    assert ids.tolist() == [[1, 9, 2, 0]]
    assert make_labels(ids).tolist() == ids.tolist()


def test_the_loss_of_a_flamingo_is_the_loss_of_its_logits():
    """`flamingo_loss` is the next-token loss of the logits that the model gives on the batch."""
    flamingo = build_tiny_flamingo()
    ids = torch.tensor([[1, flamingo.media_token_id, 5, 6]])
    batch = FlamingoBatch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
        layout=flamingo.make_layout(ids).prepare(),
        labels=make_labels(ids, ignored_ids=[flamingo.media_token_id]),
        pixels=torch.zeros(1, 1, 3, 8, 8),
    )
    logits = flamingo(ids, pixels=batch.pixels).logits
    assert flamingo_loss(flamingo, batch).item() == pytest.approx(next_token_loss(logits, batch.labels).item())


def batch_of(flamingo, rows, seed):
    """A batch of clips whose labels count here and there."""
    drawn = make_batch(rows, seed)
    labels = make_labels(drawn.input_ids, attention_mask=drawn.real)
    noise = torch.Generator().manual_seed(seed)
    arguments = drawn.arguments()
    return FlamingoBatch(
        input_ids=drawn.input_ids,
        attention_mask=drawn.real,
        layout=flamingo.make_layout(drawn.input_ids, attention_mask=drawn.real).prepare(),
        labels=labels.masked_fill(torch.rand(labels.shape, generator=noise) < 0.3, IGNORED),
        pixels=arguments["pixels"],
        frame_valid=arguments["frame_valid"],
    )


def gradients(flamingo, loss):
    flamingo.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in flamingo.trained_parameters().items()}


@heavy(3)
@given(text_rows(), seeds, st.sampled_from([0.0, 1e-3]))
def test_the_sum_is_the_mean_times_the_number(rows, seed, z_loss):
    """In value and in every gradient; the number is that of the labels behind something that are no tags."""
    flamingo = make_flamingo("gpt2")
    batch = batch_of(flamingo, rows, seed)
    total, number = flamingo_loss_sum(flamingo, batch, z_loss=z_loss)
    counted = (batch.labels != IGNORED) & (batch.labels != NEW_TAG)
    assert number == counted[:, 1:].sum()
    mean = flamingo_loss(flamingo, batch, z_loss=z_loss)
    torch.testing.assert_close(total, mean * number)
    expected = gradients(flamingo, mean * number)
    for name, actual in gradients(flamingo, total).items():
        torch.testing.assert_close(actual, expected[name])


@heavy(3)
@given(text_rows(), seeds)
def test_the_sums_of_the_rows_are_the_sum_of_the_batch(rows, seed):
    """So that a batch may be cut anywhere, and the parts divided by the number of all labels."""
    flamingo = make_flamingo("gpt2")
    batch = batch_of(flamingo, rows, seed)
    drawn = make_batch(rows, seed)
    totals, numbers = [], []
    for row in range(len(rows)):
        part = drawn._pick(slice(row, row + 1), slice(None))
        output = flamingo(**({"attention_mask": part.real} | part.arguments()), labels=batch.labels[row : row + 1])
        totals.append(output.loss * output.num_labels)
        numbers.append(output.num_labels)
    total, number = flamingo_loss_sum(flamingo, batch)
    assert sum(numbers) == number
    torch.testing.assert_close(sum(totals), total)


@pytest.mark.parametrize("z_loss", [0.0, 1e-3])
def test_a_batch_whose_labels_are_all_masked_gives_exact_zeros(z_loss):
    """Sum, number and every gradient are zero."""
    flamingo = make_flamingo("gpt2")
    batch = batch_of(flamingo, EXAMPLE_ROWS, 0)
    total, number = flamingo_loss_sum(
        flamingo, replace(batch, labels=torch.full_like(batch.labels, IGNORED)), z_loss=z_loss
    )
    assert total.item() == number.item() == 0
    assert not any(gradient.any() for gradient in gradients(flamingo, total).values())


@given(seed=seeds, batch=st.integers(1, 3), text=st.integers(2, 6), z_loss=st.sampled_from([1e-3, 0.5]))
def test_the_z_loss_is_the_mean_square_of_the_log_sums(seed, batch, text, z_loss):
    """It is added to the loss, over the labels that count."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, text, 7, generator=generator)
    labels = torch.randint(0, 7, (batch, text), generator=generator)
    labels[torch.rand(batch, text, generator=generator) < 0.3] = IGNORED
    counted = labels[:, 1:] != IGNORED
    squares = logits[:, :-1].exp().sum(-1).log().square()[counted]
    added = z_loss * squares.sum() / counted.sum().clamp(min=1)
    expected = next_token_loss(logits, labels) + added
    torch.testing.assert_close(next_token_loss(logits, labels, z_loss=z_loss), expected)


def test_a_z_loss_below_zero_is_refused():
    """It would reward large logits."""
    with pytest.raises(ValueError, match=r"z_loss is -0\.1, wanted 0"):
        next_token_loss(torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.long), z_loss=-0.1)


def test_a_batch_without_labels_has_no_loss():
    """The error says how to make them."""
    flamingo = make_flamingo("gpt2")
    batch = replace(batch_of(flamingo, EXAMPLE_ROWS, 0), labels=None)
    with pytest.raises(ValueError, match="batch has no labels; make them by make_labels"):
        flamingo_loss_sum(flamingo, batch)
