"""Eval mode: for a while, or for good where nothing trains."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from flamingo_blocks.models.adapters import adapter_weights, find_adapters


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode, and each of its parts back into its own mode afterwards.

    Args:
        module: Any module.

    Example:
        >>> dropout = nn.Dropout()
        >>> with eval_mode(dropout):
        ...     dropout.training
        False
        >>> dropout.training
        True
    """
    modes = [(part, part.training) for part in module.modules()]
    if any(mode for _, mode in modes):
        module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            if part.training != mode:  # to ask is cheap, to set is not: `torch.nn.Module` looks at what it is given
                part.training = mode


def keep_frozen_in_eval(part: nn.Module) -> None:
    """Put what is frozen into eval mode, so that none of its dropout runs; adapters of PEFT stay as they are.

    A part that trains weights of its own, beside those of adapters, is left alone.

    Args:
        part: A language model or a tower.

    Example:
        >>> part = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).requires_grad_(False)
        >>> keep_frozen_in_eval(part)
        >>> part[1].training
        False
    """
    of_adapters = adapter_weights(part)
    if any(weight.requires_grad and weight not in of_adapters for weight in part.parameters()):
        return
    adapters, bases = find_adapters(part)
    modes = [(module, module.training) for adapter in adapters for module in adapter.modules()]
    part.eval()
    for module, mode in modes:
        module.training = mode
    for base in bases:
        base.eval()
