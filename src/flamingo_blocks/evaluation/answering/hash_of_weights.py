"""What tells the weights of one model from those of another."""

import hashlib

import torch
from torch import Tensor, nn

_SAMPLED = 4096  # values of each weight: all of a large model would be read for minutes


@torch.no_grad()
def hash_of_weights(model: nn.Module) -> str:
    """A short hash of names, shapes, dtypes and some thousand values of every weight.

    Args:
        model: The model.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> hash_of_weights(one) == hash_of_weights(one), hash_of_weights(one) == hash_of_weights(other)
        (True, False)
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_sample(tensor).numpy().tobytes())
    return digest.hexdigest()[:16]


def _sample(tensor: Tensor) -> Tensor:
    flat = tensor.detach().flatten()
    step = max(1, flat.numel() // _SAMPLED)
    return flat[::step].cpu().double()  # not at once: a Mac's GPU has no float64
