"""The pool ids of each row's items."""

import torch
from jaxtyping import Int
from torch import Tensor


def ids_in_order(counts: Int[Tensor, " batch"], *, start: int = 0) -> Int[Tensor, "batch media"]:
    """Number the items row by row; -1 beyond a row's own."""
    slots = torch.arange(int(counts.max()) if counts.numel() else 0, device=counts.device)
    offsets = start + counts.cumsum(0) - counts
    return (offsets[:, None] + slots).masked_fill(slots >= counts[:, None], -1)


def append_ids(old: Int[Tensor, "batch media"], new: Int[Tensor, "batch more"]) -> Int[Tensor, "batch both"]:
    """Put each row's new ids right behind its old ones, so that slots stay without gaps."""
    both = torch.cat([old, new], dim=1)
    order = (both < 0).to(torch.uint8).argsort(dim=1, stable=True)
    width = int((both >= 0).sum(1).max()) if both.numel() else 0
    return both.gather(1, order)[:, :width]
