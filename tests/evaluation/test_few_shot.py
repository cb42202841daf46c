"""Right answers are counted, among candidates and among all tokens."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks import MediaLayout
from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.evaluation import Accuracy, Questions, exact_match, few_shot_accuracy, few_shot_curve


class Parrot(nn.Module):
    """Gives as most likely the token after the row's last one, and as second the token after that."""

    def forward(self, input_ids, *, attention_mask, layout, logits_to_keep=0):
        logits = 2.0 * nn.functional.one_hot((input_ids + 1) % 10, 10) + nn.functional.one_hot((input_ids + 2) % 10, 10)
        return SimpleNamespace(logits=logits[:, -logits_to_keep:])


def batch_of(ids, labels=None):
    ids = torch.tensor(ids)
    return FlamingoBatch(
        input_ids=ids,
        attention_mask=torch.ones_like(ids, dtype=torch.bool),
        layout=MediaLayout.from_tokens(torch.zeros_like(ids, dtype=torch.bool)),
        labels=None if labels is None else torch.tensor(labels),
    )


def test_closed_looks_at_candidates_and_open_at_all_tokens():
    """A row is right in both ways, in the closed way alone, or in neither."""
    asked = Questions(
        batch_of([[1, 3], [1, 3], [1, 3]]),
        candidates=torch.tensor([[7, 4], [7, 5], [4, 5]]),
        answer=torch.tensor([1, 1, 1]),
    )
    assert few_shot_accuracy(Parrot(), [asked]) == Accuracy(closed=2 / 3, open=1 / 3, count=3)


def test_batches_are_counted_by_their_rows():
    """Two batches of different sizes give the share over all rows, labels in a batch or not."""
    right = Questions(batch_of([[3]], labels=[[3]]), torch.tensor([[4, 7]]), torch.tensor([0]))
    wrong = Questions(batch_of([[3]] * 3), torch.tensor([[4, 7]] * 3), torch.tensor([1] * 3))
    assert few_shot_accuracy(Parrot(), [right, wrong]) == Accuracy(closed=0.25, open=0.25, count=4)


def test_a_curve_asks_each_number_of_shots():
    """The questions are drawn by number of shots, in the order given."""
    asked = []

    def draw(shots):
        asked.append(shots)
        yield Questions(batch_of([[shots]]), torch.tensor([[1, 2]]), torch.tensor([0]))

    curve = few_shot_curve(Parrot(), draw, shots=(0, 1))
    assert asked == [0, 1]
    assert [curve[shots].closed for shots in (0, 1)] == [1.0, 0.0]


def test_no_question_is_an_error():
    """Nothing asked is no accuracy of zero."""
    with pytest.raises(ValueError, match="questions is empty"):
        few_shot_accuracy(Parrot(), [])
    with pytest.raises(ValueError, match="batches is empty"):
        exact_match(Parrot(), [])


def test_an_exact_match_has_every_labelled_token_right():
    """Tokens without a label do not count; one wrong token spoils the row."""
    ids = [[1, 2, 3, 4], [1, 2, 3, 5], [9, 2, 3, 4]]
    labels = [[-100, 2, 3, 4], [-100, 2, 3, 5], [-100, -100, 3, 4]]
    assert exact_match(Parrot(), [batch_of(ids, labels)]) == pytest.approx(2 / 3)


def test_an_exact_match_needs_labels():
    """A batch without answers is refused, by its place."""
    labelled, bare = batch_of([[1, 2]], [[-100, 2]]), batch_of([[1, 2]])
    with pytest.raises(ValueError, match="batch 1 has no labels"):
        exact_match(Parrot(), [labelled, bare])


@given(labels=st.lists(st.lists(st.sampled_from([-100, 4]), min_size=3, max_size=3), min_size=1, max_size=4))
def test_every_row_of_an_exact_match_has_an_answer(labels):
    """The first row without a label that is predicted is refused; it would count as right whatever the model."""
    answered = batch_of([[1, 2, 3]], [[-100, -100, 3]])
    batch = batch_of([[3, 3, 3]] * len(labels), labels)
    without = [row for row, marks in enumerate(labels) if marks[1:] == [-100, -100]]
    if without:
        with pytest.raises(ValueError, match=f"row {without[0]} of batch 1 has no label behind its first token"):
            exact_match(Parrot(), [answered, batch])
    else:
        assert exact_match(Parrot(), [answered, batch]) == 1.0


def test_rows_of_one_token_have_no_exact_match():
    """Nothing comes before their only token, so nothing predicts it."""
    with pytest.raises(ValueError, match="row 0 of batch 0"):
        exact_match(Parrot(), [batch_of([[4]], [[4]])])
