"""Whether a linear layer is what it was built as."""

import torch
from torch import nn
from torch.nn.modules.module import _has_any_global_hook

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def may_recompute(*layers: nn.Module) -> bool:
    """Whether operations that recompute in the backward pass may stand in for linear layers and what precedes them.

    They read the weights and never call the layers, so they must not hide an adapter, a quantised layer or a hook that
    somebody has put in, on a layer or on all modules. Compiled code chooses itself what it keeps, and without gradients
    nothing is kept.

    Args:
        layers: What the caller would else call.

    Example:
        >>> may_recompute(nn.Linear(2, 2)), may_recompute(nn.Sequential(nn.Linear(2, 2)))
        (True, False)
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    return all(
        type(layer) is nn.Linear and "forward" not in vars(layer) and not any(vars(layer)[name] for name in _HOOKS)
        for layer in layers
    )
