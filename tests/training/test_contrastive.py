"""The contrastive loss in chunks and over ranks is the plain one, in value and in every gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flamingo_blocks.training.contrast.contrastive import contrastive_loss, retrieval_accuracy
from flamingo_blocks.training.contrast.two_towers import two_towers_loss
from tests.processes import run_together
from tests.strategies import seeds
from tests.training.test_two_towers import make_batch, make_towers

sizes = st.tuples(st.integers(1, 7), st.integers(1, 5))
scales = st.floats(-5, 5)
smoothings = st.sampled_from([0.0, 0.1, 0.7])


def make_pairs(size, seed, dtype=torch.float64):
    noise = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=noise, dtype=dtype).requires_grad_() for _ in range(2)]


def naive_loss(image, text, log_scale, smoothing=0.0):
    """Each score by itself, in a double loop."""
    number = len(image)
    scale = math.exp(log_scale) if isinstance(log_scale, float) else log_scale.exp().reshape(())
    scores = [[scale * (i @ t) / (i.norm() * t.norm()) for t in text] for i in image]
    total = 0.0
    for one in range(number):
        for row in (scores[one], [scores[other][one] for other in range(number)]):
            log_probs = [entry - torch.stack(row).logsumexp(0) for entry in row]
            total = total - (1 - smoothing) * log_probs[one] - smoothing * sum(log_probs) / number
    return total / number


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


@example(size=(7, 3), log_scale=3.0, smoothing=0.1, chunk=3, seed=0)
@example(size=(1, 2), log_scale=0.0, smoothing=0.0, chunk=None, seed=0)
@given(sizes, scales, smoothings, st.integers(1, 8) | st.none(), seeds)
def test_the_loss_is_that_of_a_double_loop(size, log_scale, smoothing, chunk, seed):
    """Value and gradients of images, texts and temperature, whatever the number of pairs and the chunk."""
    image, text = make_pairs(size, seed)
    scale = torch.tensor([log_scale], dtype=torch.float64, requires_grad=True)
    loss = contrastive_loss(image, text, scale, label_smoothing=smoothing, chunk_size=chunk)
    expected = naive_loss(image, text, scale, smoothing)
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)
    leaves = (image, text, scale)
    for actual, wanted in zip(gradients(3 * loss, *leaves), gradients(3 * expected, *leaves), strict=True):
        torch.testing.assert_close(actual, wanted, atol=1e-8, rtol=1e-8)


@given(sizes, scales, smoothings, seeds)
def test_the_loss_is_the_cross_entropy_of_both_directions(size, log_scale, smoothing, seed):
    """It is torch's own cross-entropy of the scores and of their transpose, smoothed labels and all."""
    image, text = make_pairs(size, seed)
    scores = math.exp(log_scale) * F.normalize(image) @ F.normalize(text).t()
    right = torch.arange(len(image))
    expected = sum(F.cross_entropy(logits, right, label_smoothing=smoothing) for logits in (scores, scores.t()))
    loss = contrastive_loss(image, text, log_scale, label_smoothing=smoothing)
    torch.testing.assert_close(loss, expected, atol=1e-9, rtol=1e-9)


@given(sizes, scales, seeds)
def test_the_order_of_pairs_moves_gradients_along_and_nothing_else(size, log_scale, seed):
    """Pairs in another order give the same loss, and each pair its own gradient."""
    image, text = make_pairs(size, seed)
    order = torch.randperm(size[0], generator=torch.Generator().manual_seed(seed))
    loss, moved = contrastive_loss(image, text, log_scale), contrastive_loss(image[order], text[order], log_scale)
    torch.testing.assert_close(loss, moved, atol=1e-9, rtol=1e-9)
    for before, after in zip(gradients(loss, image, text), gradients(moved, image, text), strict=True):
        torch.testing.assert_close(before, after, atol=1e-9, rtol=1e-9)


@given(sizes, st.lists(st.integers(-100, 100), min_size=7, max_size=7), seeds)
def test_the_length_of_a_row_does_not_matter(size, powers, seed):
    """Rows times any power of two give the same loss bit for bit, where their squares would overflow too."""
    image, text = make_pairs(size, seed, torch.float32)
    factors = 2.0 ** torch.tensor(powers[: size[0]])[:, None]
    loss = contrastive_loss(image, text, 1.0)
    assert torch.equal(contrastive_loss(image * factors, text, 1.0), loss)
    assert torch.equal(contrastive_loss(image, text * factors, 1.0), loss)


@given(sizes, st.floats(-80, 80), smoothings, seeds)
def test_no_temperature_gives_nan(size, log_scale, smoothing, seed):
    """From all partners alike to one partner alone, loss and gradients are finite; less than zero is rounding."""
    image, text = make_pairs(size, seed, torch.float32)
    scale = torch.tensor(log_scale, requires_grad=True)
    loss = contrastive_loss(image, text, scale, label_smoothing=smoothing)
    assert loss.isfinite()
    assert loss >= -1e-5 * math.exp(log_scale)
    assert all(gradient.isfinite().all() for gradient in gradients(loss, image, text, scale))


def test_one_pair_has_nothing_to_choose():
    """A pair alone is always right: loss and gradients are zero."""
    image, text = make_pairs((1, 3), 0)
    loss = contrastive_loss(image, text, 2.0)
    assert loss.item() == 0
    assert all(gradient.abs().max() < 1e-12 for gradient in gradients(loss, image, text))


def test_no_pair_at_all_is_zero():
    """An empty batch gives zero, with empty gradients."""
    image, text = make_pairs((0, 3), 0)
    loss = contrastive_loss(image, text, 2.0)
    assert loss.item() == 0
    assert all(gradient.shape == (0, 3) for gradient in gradients(loss, image, text))


def test_a_row_of_zeros_points_nowhere_and_has_a_finite_gradient():
    """It is as close to every partner as to its own."""
    image, text = torch.zeros(2, 3, requires_grad=True), torch.eye(3)[:2]
    loss = contrastive_loss(image, text, 1.0)
    loss.backward()
    torch.testing.assert_close(loss.item(), 2 * math.log(2))
    assert image.grad.isfinite().all()


def test_under_autocast_the_loss_is_made_in_float32():
    """bfloat16 vectors and autocast change no digit of what float32 gives on the same numbers."""
    image, text = (pair.detach().bfloat16().requires_grad_() for pair in make_pairs((5, 8), 0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_loss(image, text, 4.0)
        wide = contrastive_loss(image.float(), text.float(), 4.0)
    assert loss.dtype == wide.dtype == torch.float32
    assert torch.equal(loss, wide)
    assert torch.equal(loss, contrastive_loss(image.float(), text.float(), 4.0))
    torch.testing.assert_close(loss, naive_loss(image.float(), text.float(), 4.0), atol=1e-5, rtol=1e-5)
    loss.backward()
    assert image.grad.dtype == torch.bfloat16


def test_scores_of_all_pairs_never_exist_at_once():
    """No tensor is as large as the scores of all pairs, in the forward pass or kept for the backward pass."""
    pairs, chunk = 64, 8
    image, text = make_pairs((pairs, 4), 0)
    largest = 0

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            output = function(*args, **(kwargs or {}))
            largest = max([largest, *(leaf.numel() for leaf in tree_leaves(output) if torch.is_tensor(leaf))])
            return output

    with Sizes():
        contrastive_loss(image, text, 1.0, chunk_size=chunk).backward()
    assert chunk * pairs <= largest < pairs * pairs / 2


def test_the_gradient_of_a_gradient_is_refused():
    """It would be wrong, so asking for it is an error."""
    image, text = make_pairs((3, 2), 0)
    with pytest.raises(RuntimeError, match="which create_graph=True asks for"):
        torch.autograd.grad(contrastive_loss(image, text, 1.0), image, create_graph=True)


@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        (((3, 4), (2, 4)), {}, r"image has shape \[3, 4\] and text \[2, 4\]"),
        (((4,), (4,)), {}, r"image has shape \[4\]"),
        (((2, 0), (2, 0)), {}, r"image has shape \[2, 0\]"),
        (((2, 4), (2, 4)), {"log_scale": torch.zeros(2)}, r"log_scale has shape \[2\], wanted one number"),
        (((2, 4), (2, 4)), {"label_smoothing": 1.0}, r"label_smoothing is 1\.0"),
        (((2, 4), (2, 4)), {"chunk_size": 0}, "chunk_size is 0"),
    ],
)
def test_a_slip_is_told_with_its_value(shapes, options, message):
    """The error names the argument and what came."""
    with pytest.raises(ValueError, match=message):
        contrastive_loss(*map(torch.ones, shapes), **({"log_scale": 0.0} | options))


@given(sizes, st.integers(1, 3), seeds)
def test_retrieval_counts_the_partners_among_the_closest(size, top, seed):
    """A partner is found where fewer than `top` others are as close."""
    image, text = (pair.detach() for pair in make_pairs(size, seed, torch.float32))
    cosines = F.normalize(image) @ F.normalize(text).t()
    found = retrieval_accuracy(image, text, top=top)
    for share, scores in zip(found, (cosines, cosines.t()), strict=True):
        better = sum(int((row >= row[index] - 1e-6).sum()) <= top for index, row in enumerate(scores)) / len(scores)
        worse = sum(int((row >= row[index] + 1e-6).sum()) < top for index, row in enumerate(scores)) / len(scores)
        assert better <= share <= worse


def test_vectors_that_are_all_alike_find_nothing():
    """What is as close as the partner stands before it."""
    assert retrieval_accuracy(torch.ones(4, 3), torch.ones(4, 3)) == (0.0, 0.0)
    assert retrieval_accuracy(torch.ones(4, 3), torch.ones(4, 3), top=4) == (1.0, 1.0)


@pytest.mark.usefixtures("without_shape_checks")
def test_retrieval_refuses_what_has_no_answer():
    """No pair, and no place to look at."""
    with pytest.raises(ValueError, match=r"image has shape \[0, 3\], wanted one pair"):
        retrieval_accuracy(torch.ones(0, 3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="top is 0"):
        retrieval_accuracy(torch.ones(2, 3), torch.ones(2, 3), top=0)


UNEVEN = ((3, 3), (1, 4), (5, 0))  # pairs of each rank


def of_one_rank():
    """Losses and gradients of this rank's part of several batches."""
    rank = torch.distributed.get_rank()
    found = []
    for sizes_by_rank in UNEVEN:
        for options in ({}, {"label_smoothing": 0.1, "chunk_size": 2}):
            image, text = make_pairs((sum(sizes_by_rank), 6), 0, torch.float32)
            scale = torch.tensor([2.0], requires_grad=True)
            own = slice(sum(sizes_by_rank[:rank]), sum(sizes_by_rank[: rank + 1]))
            loss = contrastive_loss(image[own], text[own], scale, **options)
            found.append((loss.detach(), gradients(loss, image, text, scale)))
    image, text = make_pairs((3, 2), rank)
    alone = contrastive_loss(image, text, 1.0, gather=False)
    return found, alone.detach(), gradients_of_towers(slice(0, 2) if rank == 0 else slice(2, 5), together=True)


def gradients_of_towers(own, *, together):
    towers, batch = make_towers().double(), make_batch(pairs=5)
    batch = {"pixels": batch["pixels"][own].double(), "input_ids": batch["input_ids"][own]}
    model = DistributedDataParallel(towers) if together else towers  # what averages must outlive the backward pass
    two_towers_loss(model, batch).backward()
    return [parameter.grad for parameter in towers.parameters()]


def test_two_ranks_are_one_batch(tmp_path):
    """Loss and averaged gradients are those of one process, also where one rank has more pairs, or has none.

    So are those of two towers in torch's own `DistributedDataParallel`.
    """
    by_rank = run_together(of_one_rank, 2, folder=tmp_path)
    number = 0
    for sizes_by_rank in UNEVEN:
        for smoothing in (0.0, 0.1):
            image, text = make_pairs((sum(sizes_by_rank), 6), 0, torch.float32)
            scale = torch.tensor([2.0], requires_grad=True)
            expected = contrastive_loss(image, text, scale, label_smoothing=smoothing)
            wanted = gradients(expected, image, text, scale)
            losses, parts = zip(*(found[number] for found, *_ in by_rank), strict=True)
            number += 1
            for loss in losses:
                torch.testing.assert_close(loss, expected.detach(), atol=1e-6, rtol=1e-6)
            averages = [sum(pair) / 2 for pair in zip(*parts, strict=True)]
            assert torch.equal(parts[0][2], parts[1][2])  # the bound of the temperature looks at its sign
            for actual, exact in zip(averages, wanted, strict=True):
                torch.testing.assert_close(actual, exact, atol=1e-6, rtol=1e-6)
    whole = gradients_of_towers(slice(0, 5), together=False)
    for rank, (_, alone, of_towers) in enumerate(by_rank):
        assert torch.equal(alone, contrastive_loss(*make_pairs((3, 2), rank), 1.0).detach())
        for actual, exact in zip(of_towers, whole, strict=True):
            torch.testing.assert_close(actual, exact, atol=1e-9, rtol=1e-9)
