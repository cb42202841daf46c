"""The dense half of a block: norm, widen, activate, narrow."""

from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks.nn.module_config import check_sizes
from flamingo_blocks.nn.norms import apply_norm, make_norm
from flamingo_blocks.nn.plain_linear import may_recompute
from flamingo_blocks.ops.activated_projection import ACTIVATIONS, activate, project_activated
from flamingo_blocks.types import ActivationName, NormName


class FeedForward(nn.Module):
    """Norm, then a two-layer perceptron on each token, without residual.

    Args:
        dim: Width of the tokens.
        ff_mult: Hidden width in units of `dim`.
        hidden_dim: Hidden width itself, in place of `ff_mult` (Mllama, IDEFICS).
        activation: `"squared_relu"` (the paper), `"gelu"` (exact), `"relu"`, `"silu"`, or `"swiglu"`, which multiplies
            the activated half by a second projection.
        norm: Norm on the input; see `make_norm`.
        norm_eps: Its epsilon.

    Raises:
        TypeError: If a width is no whole number.
        ValueError: If `activation` or `norm` is unknown, or a width is not positive.

    Example:
        >>> import torch
        >>> FeedForward(16)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source:
        Flamingo (arXiv 2204.14198), section 2.2 and appendix A.1.4; no biases, as in all open implementations.
    """

    def __init__(
        self,
        dim: int,
        *,
        ff_mult: float = 4,
        hidden_dim: int | None = None,
        activation: ActivationName = "squared_relu",
        norm: NormName = "layer_norm",
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}, wanted one of {', '.join(map(repr, ACTIVATIONS))}")
        check_sizes(dim=dim, hidden_dim=hidden_dim)
        if hidden_dim is None and int(dim * ff_mult) < 1:
            raise ValueError(
                f"ff_mult is {ff_mult}, which makes a hidden width of {int(dim * ff_mult)} for dim {dim}; wanted 1 or "
                "more: give a larger ff_mult, or hidden_dim itself"
            )
        hidden_dim = int(dim * ff_mult) if hidden_dim is None else hidden_dim
        self.activation = activation
        self.norm = make_norm(norm, dim, eps=norm_eps)
        self.up_proj = nn.Linear(dim, hidden_dim, bias=False)
        self.gate_proj = nn.Linear(dim, hidden_dim, bias=False) if activation == "swiglu" else None
        self.down_proj = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead dim"]:
        """Transform each token on its own.

        Args:
            x: Tokens.

        Returns:
            The update, to be added by the caller.
        """
        x = apply_norm(self.norm, x)
        hidden: Tensor = self.up_proj(x)
        factor = None
        if self.gate_proj is not None:
            hidden, factor = self.gate_proj(x), hidden
        del x  # without gradients it is free while the widest tensors are made
        if may_recompute(self.down_proj):
            return project_activated(hidden, self.down_proj.weight, activation=self.activation, factor=factor)
        update: Tensor = self.down_proj(activate(hidden, self.activation, factor))
        return update
