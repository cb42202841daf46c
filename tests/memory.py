"""How many bytes a computation keeps for its backward pass, and how many live at once."""

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


class PeakBytes(TorchDispatchMode):
    """Counts the bytes of tensors that are made while it is on; `peak` is the most that lived at once."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak, self.known = 0, 0, set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and not leaf.is_meta and _key(leaf) not in before | self.known:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        self.known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
