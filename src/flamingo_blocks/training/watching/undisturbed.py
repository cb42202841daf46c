"""Look at a model in the middle of its training, and leave no trace."""

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from flamingo_blocks.models.eval_mode import eval_mode


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Run a model in eval mode without gradients; training goes on afterwards as if nothing had happened.

    Random generators (of Python, numpy, torch and its devices), the mode of each part and the gradients are put back,
    when an error ends it as well. Buffers and weights are the caller's to leave alone.

    Args:
        model: The model in training.

    Example:
        >>> model = nn.Dropout()
        >>> before = torch.get_rng_state()
        >>> with undisturbed(model):
        ...     _ = torch.rand(3), model.training
        >>> torch.equal(torch.get_rng_state(), before), model.training
        (True, True)
    """
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None  # for a backward pass inside would add to them in place
    python, numpy = random.getstate(), sys.modules.get("numpy")
    of_numpy = None if numpy is None else numpy.random.get_state()
    try:
        with torch.random.fork_rng(devices=_gpus_of(model)), eval_mode(model), torch.no_grad():
            yield
    finally:
        random.setstate(python)
        if numpy is not None:
            numpy.random.set_state(of_numpy)
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _gpus_of(model: nn.Module) -> list[int]:
    """The devices whose generators may be drawn from; asking others would start a context on each."""
    indices = {parameter.device.index for parameter in model.parameters() if parameter.device.type == "cuda"}
    return sorted(indices | {torch.cuda.current_device()}) if indices else []
