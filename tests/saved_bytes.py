"""What autograd keeps for the backward pass."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def saved_tensors(compute: Callable[[], Any], *, besides: Iterable[nn.Module | Tensor] = ()) -> list[Tensor]:
    """One tensor for each storage that `compute` keeps, without those of given tensors and of modules' parameters."""
    known = [x for owner in besides for x in (owner.parameters() if isinstance(owner, nn.Module) else (owner,))]
    ours = {x.untyped_storage().data_ptr() for x in known}
    kept: dict[int, Tensor] = {}  # the tensors stay alive here, so that no address is given out twice

    def pack(x: Tensor) -> Tensor:
        address = x.untyped_storage().data_ptr()
        if address not in ours and address not in kept:
            kept[address] = x
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = compute()
    del result
    return list(kept.values())


def saved_bytes(compute: Callable[[], Any], *, besides: Iterable[nn.Module | Tensor] = ()) -> int:
    """Bytes of those storages."""
    return sum(x.untyped_storage().nbytes() for x in saved_tensors(compute, besides=besides))
