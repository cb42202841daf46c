"""Where values of a tensor may be read into Python: on the CPU, in eager code."""

from typing import Any

import torch
from torch import Tensor


def on_host(values: Tensor) -> Any:
    """The values of a tensor that lives on the CPU, as Python numbers; reading them waits for no device."""
    assert values.device.type == "cpu", values.device
    return values.tolist()


def may_read(x: Tensor) -> bool:
    """Whether its values are free: in eager code on the CPU, where no device is waited for and no graph is broken."""
    return x.device.type == "cpu" and is_plain(x)


def is_plain(x: Tensor) -> bool:
    """Whether it is a tensor with values of its own, in eager code: nothing traced, fake or wrapped."""
    if torch.compiler.is_compiling() or type(x) is not Tensor or x.device.type == "meta":
        return False
    return not torch._C._functorch.is_functorch_wrapped_tensor(x)  # noqa: SLF001 -- there is no public way to ask
