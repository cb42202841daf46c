"""Which labels count, and the mean over them."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import IGNORED, flamingo_loss, make_labels, next_token_loss


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
