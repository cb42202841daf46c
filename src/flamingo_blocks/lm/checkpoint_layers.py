"""Recompute the layers of a language model in the backward pass, whether it is in training mode or not."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from flamingo_blocks.lm.find_layers import find_decoder_layers
from flamingo_blocks.lm.replaced_forwards import ReplacedForwards, refuse_replaced


def checkpoint_layers(lm: nn.Module, *, layers: str | None = None) -> "CheckpointedLayers":
    """Keep each decoder layer's input alone for the backward pass, and run the layer again there.

    Use it on a frozen language model: its own activation checkpointing does nothing in eval mode, in which a frozen
    model stays. The layer's `forward` is replaced on the instance, so hooks, those of `attach` among them, run once and
    outside; a block checkpoints itself. Calls without gradients or with a cache run as they are. No key is renamed.

    Args:
        lm: Any decoder language model, with blocks attached or without.
        layers: Dotted name of the list of decoder layers; found by itself where only one can be meant.

    Returns:
        A handle, to undo it with `remove()`.

    Raises:
        LayersNotFoundError: If the layers cannot be found.
        ValueError: If the layers are checkpointed already, by this function, by the model itself or by torch's
            `checkpoint_wrapper`, in whose recomputation hooks would run again, without their media.

    Example:
        >>> lm = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), num_layers=2, enable_nested_tensor=False)
        >>> checkpointed = checkpoint_layers(lm)
        >>> lm(torch.zeros(1, 3, 8)).sum().backward()
        >>> checkpointed.remove()

    Source:
        Chen et al., Training deep nets with sublinear memory cost (arXiv 1604.06174).
    """
    found = find_decoder_layers(lm, layers)
    for index, layer in enumerate(found.layers):
        _refuse_checkpointed(layer, f"{found.name}.{index}")
    return CheckpointedLayers(found.name, list(found.layers))


class CheckpointedLayers:
    """Layers that recompute themselves; made by `checkpoint_layers`.

    Args:
        name: Dotted name of their list.
        layers: The layers.

    Example:
        >>> lm = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        >>> checkpointed = CheckpointedLayers("lm", list(lm))
        >>> lm(torch.zeros(1, 2)).requires_grad
        True
        >>> checkpointed.remove()
    """

    def __init__(self, name: str, layers: list[nn.Module]) -> None:
        self.name = name
        modules = {f"{name}.{index}": layer for index, layer in enumerate(layers)}
        forwards = {name: _Checkpointed(layer.forward) for name, layer in modules.items()}
        self._replaced = ReplacedForwards(modules, forwards, by="checkpoint_layers")

    def remove(self) -> None:
        """Give every layer its `forward` back, so that nothing is left behind. A second call does nothing.

        Raises:
            RuntimeError: If something has replaced a layer's `forward` since; nothing is removed then.
        """
        self._replaced.remove()


class _Checkpointed:
    """A `forward` that keeps its inputs alone; an object, so that a deep copy of the model runs its own layers."""

    def __init__(self, forward: Any) -> None:
        self.forward = self.__wrapped__ = forward  # the second is where `inspect.signature` looks

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # A cache would grow a second time in the recomputation.
        caches = any(hasattr(value, "get_seq_length") for value in (*args, *kwargs.values()))
        if caches or not torch.is_grad_enabled():
            return self.forward(*args, **kwargs)
        return checkpoint(self.forward, *args, use_reentrant=False, **kwargs)


def _refuse_checkpointed(layer: nn.Module, name: str) -> None:
    refuse_replaced(layer, name, kind=_Checkpointed, done="checkpointed", by="checkpoint_layers")
    if any(kind.__name__ == "CheckpointWrapper" for kind in type(layer).__mro__):
        raise ValueError(
            f"{name!r} is wrapped by torch's checkpoint_wrapper, which runs the layer's hooks a second time, without "
            "their media; leave the wrapper away, checkpoint_layers does its work"
        )
    if getattr(layer, "gradient_checkpointing", False):
        raise ValueError(
            f"{name!r} is told to checkpoint itself; call activation_checkpointing_disable() on the language model "
            "first, gradient_checkpointing_disable() in older transformers"
        )
