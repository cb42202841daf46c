"""Which modules of a model train, so that their buffers are saved with their weights."""

from collections.abc import Iterator

from torch import nn


def training_modules(model: nn.Module) -> set[str]:
    """Names of the modules whose buffers belong to what trains.

    The closest module with parameters decides, itself or all below it: running statistics beside a weight that trains
    do, those of a frozen norm do not.

    Args:
        model: Any module, sharded or not.

    Example:
        >>> model = nn.Sequential(nn.BatchNorm1d(2), nn.BatchNorm1d(2).requires_grad_(False))
        >>> training_modules(model)
        {'0'}
    """
    return set(_walk(model, "", within=False))


def _walk(module: nn.Module, name: str, *, within: bool) -> Iterator[str]:
    own = [parameter.requires_grad for parameter in module.parameters(recurse=False)]
    below = [parameter.requires_grad for parameter in module.parameters()]
    if own:
        within = any(own)
    elif below:
        within = all(below)
    if within:
        yield name
    for child, inner in module.named_children():
        yield from _walk(inner, f"{name}.{child}" if name else child, within=within)
