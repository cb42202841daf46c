"""Find the decoder layers of a language model, or say which lists could be meant."""

from typing import NamedTuple

import torch
from torch import nn

from flamingo_blocks.errors import LayersNotFoundError
from flamingo_blocks.lm.text_config import text_config

_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")


class DecoderLayers(NamedTuple):
    """The decoder layers, their dotted name, and the module whose call runs them.

    Example:
        >>> lm = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), num_layers=3, enable_nested_tensor=False)
        >>> found = find_decoder_layers(lm)
        >>> found.name, len(found.layers), found.decoder is lm
        ('layers', 3, True)
    """

    name: str
    layers: nn.ModuleList | nn.Sequential
    decoder: nn.Module


def find_decoder_layers(lm: nn.Module, layers: str | None = None) -> DecoderLayers:
    """Find the list of layers that a decoder runs one after the other.

    Args:
        lm: Any decoder language model.
        layers: Dotted name of the list, such as `"model.layers"`; found by itself when only one list can be meant.

    Returns:
        The layers, with their name and the module that runs them.

    Raises:
        LayersNotFoundError: If `layers` is no list of modules, or none or several lists could be meant; the message
            names them all.

    Example:
        >>> lm = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), num_layers=3, enable_nested_tensor=False)
        >>> find_decoder_layers(lm).name
        'layers'
    """
    lists = {name: module for name, module in lm.named_modules() if isinstance(module, nn.ModuleList) and len(module)}
    listing = _listing(lm, lists)
    if layers is None:
        layers = _only_candidate(lm, lists, listing)
    try:
        found = lm.get_submodule(layers)
    except AttributeError:
        found = None
    if not isinstance(found, nn.ModuleList | nn.Sequential):
        raise LayersNotFoundError(
            f"layers={layers!r} names no list of modules in {type(lm).__name__}; lists found: {listing}"
        )
    return DecoderLayers(layers, found, _owner(lm, layers))


def layer_device(layer: nn.Module) -> torch.device | None:
    """Where a layer computes: where accelerate's hooks bring it, or where its first weight is.

    Args:
        layer: A decoder layer.

    Returns:
        The device, `None` for a layer without weights.

    Example:
        >>> layer_device(nn.Linear(2, 2))
        device(type='cpu')
    """
    for module in layer.modules():
        outer = getattr(module, "_hf_hook", None)
        for hook in (outer, *getattr(outer, "hooks", ())):
            device = getattr(hook, "execution_device", None)
            if device is not None:
                return torch.device(device)
    weight = next(layer.parameters(), None)
    return None if weight is None else weight.device


def _only_candidate(lm: nn.Module, lists: dict[str, nn.ModuleList], listing: str) -> str:
    outer = [name for name in lists if not any(name.startswith(other + ".") for other in lists)]
    expected = _configured_layers(lm)
    fitting = [name for name in outer if expected is None or len(lists[name]) == expected]
    if len(fitting) == 1:
        return fitting[0]
    wanted = "" if expected is None else f" with {expected} layers, as its config says"
    if not lists:
        raise LayersNotFoundError(
            f"no nn.ModuleList in {type(lm).__name__} could be its decoder layers; pass layers= with the name of an "
            f"nn.Sequential: {listing}"
        )
    raise LayersNotFoundError(
        f"{len(fitting)} lists of modules in {type(lm).__name__} could be its decoder layers{wanted}; "
        f"pass layers= with one of: {listing}"
    )


def _listing(lm: nn.Module, lists: dict[str, nn.ModuleList]) -> str:
    """What can be named: the lists, or sequences of modules, which each feed-forward layer may be, if there is none."""
    named: dict[str, nn.Module] = dict(lists) or {
        name: module for name, module in lm.named_modules() if name and isinstance(module, nn.Sequential)
    }
    return ", ".join(f"{name!r} ({len(module)} layers)" for name, module in named.items()) or "none was found"  # type: ignore[arg-type]


def _configured_layers(lm: nn.Module) -> int | None:
    config = text_config(lm)
    counts = (getattr(config, name, None) for name in _LAYER_COUNTS)
    return next((count for count in counts if isinstance(count, int)), None)


def _owner(lm: nn.Module, name: str) -> nn.Module:
    """The nearest module around the list that is called; containers are not."""
    while name:
        name = name.rpartition(".")[0]
        owner = lm.get_submodule(name)
        if not isinstance(owner, nn.ModuleDict | nn.ModuleList | nn.Sequential):
            return owner
    return lm
