"""Where the hidden states stand among what a decoder layer is called with."""

import inspect
from typing import Any

from torch import Tensor, nn


def find_text(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, named: str | None = None
) -> tuple[Tensor, int | str]:
    """The hidden states that enter a layer: the argument of a name, else the first, or a keyword.

    Args:
        layer: The layer that is called.
        args: What it is called with.
        kwargs: Likewise.
        named: The argument that has them, where it is told.

    Returns:
        The hidden states, and their place: a number among `args`, or a keyword.

    Raises:
        ValueError: If it cannot be told which keyword has them, the first argument is no tensor [batch text dim], or
            the call lacks what is named.

    Example:
        >>> import torch
        >>> find_text(nn.Identity(), (torch.zeros(1, 2, 8),), {})[1]
        0
    """
    if named is not None:
        return _named(layer, args, kwargs, named)
    if args:
        if not (isinstance(args[0], Tensor) and args[0].ndim == 3):
            told = f"of shape {tuple(args[0].shape)}" if isinstance(args[0], Tensor) else type(args[0]).__name__
            raise ValueError(
                f"the decoder layer {type(layer).__name__} was called with {told} first, wanted the text "
                "[batch text dim]: name the argument that has it by attach(lm, blocks, text_argument=...)"
            )
        return args[0], 0
    tensors = [name for name, value in kwargs.items() if isinstance(value, Tensor) and value.ndim == 3]
    if "hidden_states" not in tensors and len(tensors) != 1:
        raise ValueError(
            f"the decoder layer was called with keywords {sorted(kwargs)}; wanted hidden_states, or one tensor "
            "[batch text dim]: name the one with the text by attach(lm, blocks, text_argument=...)"
        )
    name = "hidden_states" if "hidden_states" in tensors else tensors[0]
    return kwargs[name], name


def check_text_argument(layer: nn.Module, name: str | None) -> None:
    """Whether a layer takes an argument of a name.

    Args:
        layer: A decoder layer.
        name: Of the argument; `None` is none to look for.

    Raises:
        ValueError: If it takes none of that name.
    """
    if name is None or name in (taken := _taken(layer)):
        return
    if not any(one.kind is one.VAR_KEYWORD for one in _parameters(layer)):  # which would take any name
        raise ValueError(
            f"text_argument is {name!r}, but {type(layer).__name__}.forward takes {', '.join(taken) or 'nothing'}"
        )


def _named(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> tuple[Tensor, int | str]:
    if name in kwargs:
        return kwargs[name], name
    taken = _taken(layer)
    place = taken.index(name) if name in taken else len(args)
    if place >= len(args):
        raise ValueError(f"text_argument is {name!r}, but {type(layer).__name__} was called without it")
    return args[place], place


def _taken(layer: nn.Module) -> list[str]:
    """Names of the arguments, but for those of `*args` and `**kwargs`, by which nothing can be handed over."""
    return [one.name for one in _parameters(layer) if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def _parameters(layer: nn.Module) -> list[inspect.Parameter]:
    return list(inspect.signature(layer.forward).parameters.values())
