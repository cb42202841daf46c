"""Calls of a sharded model: each is a call of all ranks, so those who are done go on beside the others."""

import torch
from torch import distributed, nn


def is_sharded(module: nn.Module) -> bool:
    """Whether torch's FSDP2 has sharded a module, or parts of it, over several processes.

    Args:
        module: Any module.

    Example:
        >>> is_sharded(nn.Linear(2, 2))
        False
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return False
    return any(hasattr(type(part), "set_requires_gradient_sync") for part in module.modules())


def any_rank(wanted: bool, device: torch.device) -> bool:  # noqa: FBT001 - the one thing that it is about
    """Whether any process of the group wants something; all of them have to ask.

    Args:
        wanted: Whether this one does.
        device: One that the group works with.
    """
    flag = torch.tensor(int(wanted), device=device)
    distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
    return bool(flag)
