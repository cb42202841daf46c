"""Random numbers of checks, drawn without a trace in those of the caller."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def own_random_numbers(tensors: Iterable[Tensor]) -> Iterator[None]:
    """Draw the same random numbers at each use, on the host and on the devices of some tensors, and put all back.

    `torch.manual_seed` would seed every other device too, and one that starts later.

    Args:
        tensors: The weights of a model.
    """
    devices = sorted({tensor.device.index for tensor in tensors if tensor.is_cuda})
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(0)
        yield
