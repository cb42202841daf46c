"""Rows that lie on several ranks, as one batch."""

from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor, distributed


class AllRanks:
    """The rows of all ranks in the order of the ranks, of which each may have another number.

    Args:
        rows: The rows of this rank; every rank makes the object at the same place of its program.
        together: False: this rank alone, which is also what it is without a process group.

    Example:
        >>> ranks = AllRanks(torch.zeros(3, 8))
        >>> ranks.sizes, ranks.own
        ([3], slice(0, 3, None))
    """

    def __init__(self, rows: Float[Tensor, "own dim"], *, together: bool = True) -> None:
        several = together and distributed.is_available() and distributed.is_initialized()
        self.world_size = distributed.get_world_size() if several else 1
        self.rank = distributed.get_rank() if self.world_size > 1 else 0
        self.sizes = [len(rows)]
        if self.world_size > 1:
            size = torch.tensor([len(rows)], device=rows.device)
            sizes = [torch.empty_like(size) for _ in range(self.world_size)]
            distributed.all_gather(sizes, size)
            self.sizes = torch.cat(sizes).tolist()
        self.num_rows = sum(self.sizes)
        start = list(accumulate(self.sizes, initial=0))[self.rank]
        self.own = slice(start, start + len(rows))

    def gather(self, rows: Float[Tensor, "own dim"]) -> Float[Tensor, "all dim"]:
        """The rows of all ranks."""
        if self.world_size == 1:
            return rows
        most = max(self.sizes)
        padded = rows.new_zeros(most, rows.shape[1])
        padded[: len(rows)] = rows
        gathered = [torch.empty_like(padded) for _ in range(self.world_size)]
        distributed.all_gather(gathered, padded)
        return torch.cat([part[:size] for part, size in zip(gathered, self.sizes, strict=True)])

    def sum_of_own(self, rows: Float[Tensor, "all dim"]) -> Float[Tensor, "own dim"]:
        """What all ranks have for the rows of this one, summed: the way back of `gather`."""
        if self.world_size == 1:
            return rows
        most = max(self.sizes)
        padded = rows.new_zeros(self.world_size, most, rows.shape[1])
        for room, part in zip(padded, torch.split(rows, self.sizes), strict=True):
            room[: len(part)] = part
        summed = rows.new_empty(most, rows.shape[1])
        distributed.reduce_scatter(summed, list(padded))
        return summed[: self.sizes[self.rank]]

    def sum(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The values of all ranks, summed."""
        if self.world_size > 1:
            values = values.clone()
            distributed.all_reduce(values)
        return values

    def logsumexp(self, values: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
        """The logarithm of the sum of the exponentials of all ranks' values."""
        if self.world_size == 1:
            return values
        largest = values.clone()
        distributed.all_reduce(largest, distributed.ReduceOp.MAX)
        return largest + self.sum((values - largest).exp()).log()
