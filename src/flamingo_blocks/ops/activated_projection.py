"""The second half of a perceptron, without keeping what the activation gave."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.types import ActivationName


def squared_relu(x: Tensor) -> Tensor:
    """`relu(x) ** 2`, which the paper found better than GELU for the trained parts."""
    return F.relu(x).square()


def _silu_backward(grad: Tensor, x: Tensor) -> Tensor:
    if torch.is_grad_enabled():  # torch's own operation cannot be differentiated once more
        s = x.sigmoid()
        return grad * s * (1 + x * (1 - s))
    out: Tensor = torch.ops.aten.silu_backward(grad, x)
    return out


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "squared_relu": squared_relu,
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "swiglu": F.silu,
}

_DERIVATIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared_relu": lambda grad, x: grad * (2 * F.relu(x)),
    "gelu": torch.ops.aten.gelu_backward,
    "relu": lambda grad, x: grad.masked_fill(x <= 0, 0),
    "silu": _silu_backward,
    "swiglu": _silu_backward,
}


def activate(
    hidden: Float[Tensor, "*lead hidden"], activation: ActivationName, factor: Float[Tensor, "*lead hidden"] | None
) -> Float[Tensor, "*lead hidden"]:
    """Activate, and multiply where there is a factor."""
    activated = ACTIVATIONS[activation](hidden)
    return activated if factor is None else activated * factor


def project_activated(
    hidden: Float[Tensor, "*lead hidden"],
    weight: Float[Tensor, "dim hidden"],
    *,
    activation: ActivationName,
    factor: Float[Tensor, "*lead hidden"] | None = None,
) -> Float[Tensor, "*lead dim"]:
    """Activate, multiply and narrow; the activated values, the widest of a block, are made again in the backward pass.

    Args:
        hidden: What is activated.
        weight: Weight of the linear layer that follows.
        activation: A name of `ACTIVATIONS`.
        factor: What the activated values are multiplied by (`"swiglu"`).

    Returns:
        The narrow tokens, in the dtype that a linear layer would give.

    Example:
        >>> project_activated(torch.tensor([[-1.0, 2.0]]), torch.ones(1, 2), activation="squared_relu")
        tensor([[4.]])
    """
    out: Tensor = _ProjectActivated.apply(hidden, factor, weight, activation, linear_dtype(weight))  # type: ignore[no-untyped-call]
    return out


def linear_dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which a linear layer of this weight computes."""
    device = weight.device.type
    if device == "meta" or weight.dtype == torch.float64 or not torch.is_autocast_enabled(device):
        return weight.dtype  # autocast knows no meta tensors, and leaves float64 alone
    return torch.get_autocast_dtype(device)


class _ProjectActivated(torch.autograd.Function):
    """Saves its inputs alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(
        hidden: Tensor, factor: Tensor | None, weight: Tensor, activation: ActivationName, dtype: torch.dtype
    ) -> Tensor:
        return F.linear(activate(hidden, activation, factor).to(dtype), weight.to(dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004 -- torch's signature
        *tensors, ctx.activation, ctx.dtype = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, factor, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad
        (grad,) = grads
        hidden_grad = factor_grad = weight_grad = None
        if needs[2]:
            activated = activate(hidden, ctx.activation, factor).to(ctx.dtype)
            # A lone token has no axis to flatten.
            weight_grad = grad.reshape(-1, grad.shape[-1]).T @ activated.reshape(-1, activated.shape[-1])
        if needs[0] or needs[1]:
            activated_grad = (grad @ weight.to(ctx.dtype)).to(hidden.dtype)
            if needs[1]:
                factor_grad = activated_grad * ACTIVATIONS[ctx.activation](hidden)
            if factor is not None:
                activated_grad = activated_grad * factor
            hidden_grad = _DERIVATIVES[ctx.activation](activated_grad, hidden)
        return hidden_grad, factor_grad, weight_grad, None, None
