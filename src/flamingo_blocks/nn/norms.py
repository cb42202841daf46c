"""The two norms that the family uses, by name."""

from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks.types import NormName

_DEFAULT_EPS = {"layer_norm": 1e-5, "rms_norm": 1e-6}


def make_norm(name: NormName, dim: int, *, eps: float | None = None) -> nn.Module:
    """Build a norm over the last axis.

    Args:
        name: `"layer_norm"` (scale and offset, as the paper) or `"rms_norm"` (IDEFICS, Mllama).
        dim: Width of that axis.
        eps: Added to the variance; 1e-5 and 1e-6 by default, as the models of the family have it.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> make_norm("rms_norm", 8)
        RMSNorm((8,), eps=1e-06, elementwise_affine=True)
    """
    if name not in _DEFAULT_EPS:
        raise ValueError(f"norm is {name!r}, wanted one of {', '.join(map(repr, _DEFAULT_EPS))}")
    eps = _DEFAULT_EPS[name] if eps is None else eps
    return nn.LayerNorm(dim, eps=eps) if name == "layer_norm" else nn.RMSNorm(dim, eps=eps)


def apply_norm(norm: nn.Module | None, x: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead dim"]:
    """Norm in the dtype of the norm's weight, so that autocast and a host in bfloat16 do not round its input first.

    Args:
        norm: What `make_norm` built; `None` leaves `x` alone.
        x: Tokens.

    Returns:
        The normed tokens, in the dtype of the weight.

    Example:
        >>> import torch
        >>> apply_norm(make_norm("rms_norm", 8), torch.ones(1, 8, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    if norm is None:
        return x
    out: Tensor = norm(x.to(next(norm.parameters()).dtype))
    return out
