"""Adapters of PEFT in a language model or a tower, told by their types, which need not be installed."""

from torch import nn

_ADAPTERS = ("BaseTunerLayer", "AuxiliaryTrainingWrapper", "ModulesToSaveWrapper")  # of PEFT, newer and older
_BASES = ("base_layer", "original_module")  # what they stand around


def find_adapters(part: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The adapters in a module, and what they stand around.

    Args:
        part: A language model or a tower.

    Example:
        >>> find_adapters(nn.Linear(1, 1))
        ([], [])
    """
    adapters = [module for module in part.modules() if any(k.__name__ in _ADAPTERS for k in type(module).__mro__)]
    bases = [base for adapter in adapters for name in _BASES if (base := getattr(adapter, name, None)) is not None]
    return adapters, bases


def adapter_weights(part: nn.Module, *, active: bool = False) -> set[nn.Parameter]:
    """The weights of adapters, without those of what they stand around.

    Args:
        part: A language model or a tower.
        active: Leave out adapters that are not used, of several under different names.
    """
    adapters, bases = find_adapters(part)
    of_bases = {weight for base in bases for weight in base.parameters()}
    return {
        weight
        for adapter in adapters
        for name, weight in adapter.named_parameters()
        # PEFT keeps the weights of each adapter under its name, so that is one of the words of the path.
        if weight not in of_bases and not (active and set(name.split(".")).isdisjoint(_names_in_use(adapter)))
    }


def _names_in_use(adapter: nn.Module) -> list[str]:
    names = getattr(adapter, "active_adapters", [])
    return [names] if isinstance(names, str) else list(names)
