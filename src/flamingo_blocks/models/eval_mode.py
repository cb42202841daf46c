"""Eval mode: for a while, or for good where nothing trains."""

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


_ADAPTERS = ("BaseTunerLayer", "AuxiliaryTrainingWrapper", "ModulesToSaveWrapper")  # of PEFT, newer and older
_BASES = ("base_layer", "original_module")  # what they stand around


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
    adapters = [module for module in part.modules() if any(k.__name__ in _ADAPTERS for k in type(module).__mro__)]
    bases = [base for adapter in adapters for name in _BASES if (base := getattr(adapter, name, None)) is not None]
    of_bases = {weight for base in bases for weight in base.parameters()}
    of_adapters = {weight for adapter in adapters for weight in adapter.parameters()} - of_bases
    if any(weight.requires_grad and weight not in of_adapters for weight in part.parameters()):
        return
    modes = [(module, module.training) for adapter in adapters for module in adapter.modules()]
    part.eval()
    for module, mode in modes:
        module.training = mode
    for base in bases:
        base.eval()
