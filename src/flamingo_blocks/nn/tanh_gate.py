"""The gate that opens a new layer slowly: multiply by the tanh of a learned value that starts at 0."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from flamingo_blocks.types import GateShape


class TanhGate(nn.Module):
    """Scale an update by `tanh(gate)`, 0 at the start.

    Put it on the output of a layer that is added to a frozen model: at 0 the model computes what it did before, and the
    gate learns how far to open.

    Args:
        shape: `"scalar"`: one value (the paper); `"channel"`: one for each of `dim` channels (IDEFICS).
        dim: Width of the update; needed for `"channel"`.
        init: Value before tanh at the start.

    Raises:
        ValueError: If `shape` is unknown, or `"channel"` comes without `dim`.

    Example:
        >>> TanhGate()(torch.ones(2, 3)).abs().max()
        tensor(0., grad_fn=<MaxBackward1>)

    Source:
        Flamingo (arXiv 2204.14198), section 2.2 and figure 4. The parameter has shape `[1]`, not `[]`, because FSDP2
        cannot shard scalars; it may stay float32 beside a model in bfloat16.
    """

    def __init__(self, shape: GateShape = "scalar", *, dim: int | None = None, init: float = 0.0) -> None:
        super().__init__()
        if shape not in ("scalar", "channel"):
            raise ValueError(f'shape is {shape!r}, wanted "scalar" or "channel"')
        if shape == "channel" and dim is None:
            raise ValueError('gate shape "channel" needs dim, the width of the update')
        self.gate = nn.Parameter(torch.full((1 if shape == "scalar" or dim is None else dim,), float(init)))

    def forward(self, update: Float[Tensor, "*lead dim"]) -> Float[Tensor, "*lead dim"]:
        """Scale the update, in its own dtype.

        Args:
            update: What a layer would add.

        Returns:
            `tanh(gate) * update`.
        """
        return update * self.value().to(update.dtype)

    def value(self) -> Float[Tensor, " gate"]:
        """How far the gate is open, `tanh(gate)`, between -1 and 1, in float32 at least."""
        return self.gate.to(torch.promote_types(self.gate.dtype, torch.float32)).tanh()


@contextmanager
def closed_gates(module: nn.Module) -> Iterator[None]:
    """Close every `TanhGate` inside a module for a while: the control that shows what the gated layers bring.

    Args:
        module: A block, or a whole model.

    Example:
        >>> gate = TanhGate(init=1.0)
        >>> with closed_gates(gate):
        ...     gate(torch.ones(1)).item()
        0.0
        >>> round(gate.value().item(), 3)
        0.762
    """
    gates = [child.gate for child in module.modules() if isinstance(child, TanhGate)]
    opened = [gate.detach().clone() for gate in gates]
    try:
        with torch.no_grad():
            for gate in gates:
                gate.zero_()
        yield
    finally:
        with torch.no_grad():
            for gate, value in zip(gates, opened, strict=True):
                gate.copy_(value)
