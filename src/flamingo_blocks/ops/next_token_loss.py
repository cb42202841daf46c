"""Cross-entropy of each token given those before it: the one loss of model, demo and training."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from flamingo_blocks.errors import ShapeError

IGNORED = -100  # the label that does not count, as in torch and transformers


def next_token_loss(
    logits: Float[Tensor, "batch text vocab"], labels: Int[Tensor, "batch text"], *, z_loss: float = 0.0
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each token given those before it, over the labels that count.

    Use it where the logits are there anyway; `linear_cross_entropy` of hidden states and `shifted_labels(labels)` is
    the same without them.

    Args:
        logits: One row of scores a token; the softmax is taken in float32 at least.
        labels: Token ids, -100 where nothing counts; not shifted.
        z_loss: As in `linear_cross_entropy`.

    Returns:
        The mean in nats, or zero where no label counts.

    Raises:
        ValueError: If `z_loss` is negative.

    Example:
        >>> import torch
        >>> round(next_token_loss(torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]])).item(), 4)  # log of 4
        1.3863
    """
    check_z_loss(z_loss)
    wanted = shifted_labels(labels).flatten()
    scores = logits.flatten(0, 1)
    scores = scores if scores.dtype.itemsize >= 4 else scores.float()
    total = F.cross_entropy(scores, wanted, ignore_index=IGNORED, reduction="sum")
    if z_loss:
        total = total + z_loss * scores.logsumexp(-1).masked_fill(wanted == IGNORED, 0).square().sum()
    return mean_of_counted(total, wanted)


def check_z_loss(z_loss: float) -> None:
    """Refuse a factor that would reward large logits.

    Raises:
        ValueError: If it is negative, or no number.
    """
    if not z_loss >= 0:
        raise ValueError(f"z_loss is {z_loss}, wanted 0 for none, or a factor above it such as 1e-3")


def check_label_kind(labels: Tensor) -> None:
    """Refuse labels that are no ids.

    Raises:
        ValueError: If they are no integers.
    """
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise ShapeError(f"labels is {labels.dtype}, wanted integers: token ids, {IGNORED} where nothing counts")


def shifted_labels(labels: Int[Tensor, "batch text"]) -> Int[Tensor, "batch text"]:
    """For each token the label of the next one; the last has none.

    Args:
        labels: Token ids, -100 where nothing counts.

    Returns:
        The labels one column earlier, -100 in the last.

    Example:
        >>> import torch
        >>> shifted_labels(torch.tensor([[7, -100, 8]]))
        tensor([[-100,    8, -100]])
    """
    return F.pad(labels, (-1, 1), value=IGNORED) if labels.shape[1] else labels


def mean_of_counted(
    total: Float[Tensor, ""], labels: Int[Tensor, "*lead"], *, ignored: int = IGNORED
) -> Float[Tensor, ""]:
    """A sum over the labels that count, divided by their number; zero where none does."""
    return total / number_counted(labels, ignored=ignored).clamp(min=1)


def number_counted(labels: Int[Tensor, "*lead"], *, ignored: int = IGNORED) -> Int[Tensor, ""]:
    """How many labels count."""
    return (labels != ignored).sum()
