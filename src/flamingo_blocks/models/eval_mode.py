"""Run a model in eval mode for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
