"""Cross-entropy of each token given those before it: the one loss of model, demo and training."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

IGNORED = -100  # the label that does not count, as in torch and transformers


def next_token_loss(logits: Float[Tensor, "batch text vocab"], labels: Int[Tensor, "batch text"]) -> Float[Tensor, ""]:
    """Mean cross-entropy of each token given those before it, over the labels that count.

    Args:
        logits: One row of scores a token; the softmax is taken in float32 at least.
        labels: Token ids, -100 where nothing counts; not shifted.

    Returns:
        The mean in nats, or zero where no label counts.

    Example:
        >>> import torch
        >>> round(next_token_loss(torch.zeros(1, 3, 4), torch.tensor([[0, 1, -100]])).item(), 4)  # log of 4
        1.3863
    """
    wanted = labels[:, 1:]
    scores = logits[:, :-1].flatten(0, 1)
    scores = scores if scores.dtype.itemsize >= 4 else scores.float()
    total = F.cross_entropy(scores, wanted.flatten(), ignore_index=IGNORED, reduction="sum")
    return total / (wanted != IGNORED).sum().clamp(min=1)
