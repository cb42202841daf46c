"""The integers that attention kernels need, computed once per batch from the index of a layout."""

from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

_PIECE_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_PRICE_OF_PIECE = 16  # in rows: a guess at what copying keys and values for a piece costs, with 8 heads of 64 on a CPU


@dataclass(frozen=True, eq=False)
class AttentionPlan:
    """How to compute attention without a mask, and which items are seen at all.

    The tokens are sorted by the item they see, so that each item has one *run* of tokens: the blocks of block-diagonal
    kernels. The runs are also cut into pieces of equal size, so that one batched call without a mask computes exactly
    the pairs that are needed. Made by `MediaLayout.prepare`; never needed for correctness.

    Args:
        seen: Pool ids that some token sees, ascending.
        host_pool_size: One number: the items that a pool must hold for this layout.
        tokens: The tokens that see an item, as `row * text + column`, sorted by the item.
        places: Where in `tokens` each token stands; its length for a token that sees nothing.
        run_starts: Where in `tokens` the run of each item of `seen` begins, and the end of the last one.
        host_run_starts: The same numbers.
        pieces: Tokens of each piece, as in `tokens`; the last token of a run is repeated to fill its last piece.
        piece_items: The one pool id that the tokens of a piece see.
        positions: Where in the flattened `pieces` each token stands; `pieces * block` for a token that sees nothing.

    The two `host_` tensors stay on the CPU wherever the plan goes: kernels read integers from them without waiting for
    a device. All but the first two are `None` when some token sees several items.

    Example:
        >>> from flamingo_blocks import MediaLayout
        >>> layout = MediaLayout.from_tokens(torch.tensor([[True, False, True, False, False]])).prepare()
        >>> layout.plan.run_starts
        tensor([0, 2, 5], dtype=torch.int32)
    """

    seen: Int[Tensor, " seen"]
    host_pool_size: Int[Tensor, "1"]
    tokens: Int[Tensor, " seeing"] | None = None
    places: Int[Tensor, " tokens"] | None = None
    run_starts: Int[Tensor, " runs_and_end"] | None = None
    host_run_starts: Int[Tensor, " runs_and_end"] | None = None
    pieces: Int[Tensor, "pieces block"] | None = None
    piece_items: Int[Tensor, " pieces"] | None = None
    positions: Int[Tensor, " tokens"] | None = None

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "AttentionPlan":
        """The same plan on another device; what belongs to the host stays there."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {
            name: value.to(device, non_blocking=non_blocking)
            for name, value in values.items()
            if value is not None and not name.startswith("host_")
        }
        return replace(self, **moved)

    @property
    def single_item(self) -> bool:
        """Whether no token sees several items."""
        return self.tokens is not None


def make_plan(
    item_ids: Int[Tensor, "batch media"], first: Int[Tensor, "batch text"], last: Int[Tensor, "batch text"]
) -> AttentionPlan:
    """Plan a layout; reads values, so call it once per batch and outside compiled code."""
    seen = _seen_ids(item_ids, first, last)
    pool_size = int(item_ids.max()) + 1 if item_ids.numel() else 0
    host_pool_size = torch.tensor([pool_size], dtype=torch.int32)
    if not sees_one_item_at_most(first, last):
        return AttentionPlan(seen, host_pool_size)
    token_item = item_of_token(item_ids, last).flatten()
    order = token_item.argsort(stable=True)
    order = order[int((token_item < 0).sum()) :]
    items, run_lengths = torch.unique_consecutive(token_item[order], return_counts=True)
    run_starts = F.pad(run_lengths.cumsum(0), (1, 0)).int()
    places = order.new_full((token_item.numel(),), order.numel())
    places[order] = torch.arange(order.numel(), device=order.device)
    pieces, positions, pieces_of_run = _cut(order, run_lengths, token_item.numel())
    return AttentionPlan(
        seen=seen,
        host_pool_size=host_pool_size,
        tokens=order.int(),
        places=places.int(),
        run_starts=run_starts,
        host_run_starts=run_starts.cpu(),
        pieces=pieces.int(),
        piece_items=items.repeat_interleave(pieces_of_run).int(),
        positions=positions.int(),
    )


def _cut(order: Tensor, run_lengths: Tensor, num_tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pieces of equal size, the position of each token in them, and the number of pieces of each run."""
    block = _piece_size(run_lengths)
    pieces_of_run = (run_lengths + block - 1) // block
    rank = torch.arange(order.numel(), device=order.device)
    rank -= (run_lengths.cumsum(0) - run_lengths).repeat_interleave(run_lengths)  # place within the run
    piece = (pieces_of_run.cumsum(0) - pieces_of_run).repeat_interleave(run_lengths) + rank // block
    position = piece * block + rank % block
    num_pieces = int(pieces_of_run.sum())
    ends = order[run_lengths.cumsum(0) - 1]
    pieces = ends.repeat_interleave(pieces_of_run * block)
    pieces[position] = order
    positions = order.new_full((num_tokens,), num_pieces * block)
    positions[order] = position
    return pieces.view(num_pieces, block), positions, pieces_of_run


def sees_one_item_at_most(first: Tensor, last: Tensor) -> bool:
    """Whether no token sees a range of several slots."""
    return bool(((first == last) | (last < 0)).all())


def item_of_token(item_ids: Int[Tensor, "batch media"], last: Int[Tensor, "batch text"]) -> Int[Tensor, "batch text"]:
    """Pool id of the last item each token sees, -1 for none."""
    if item_ids.shape[1] == 0:
        return torch.full_like(last, -1)
    return item_ids.gather(1, last.clamp(min=0)).masked_fill(last < 0, -1)


def seen_slots(
    item_ids: Int[Tensor, "batch media"], first: Int[Tensor, "batch text"], last: Int[Tensor, "batch text"]
) -> Tensor:
    """Bool [batch media]: slots that some token of the row sees. Adds +1 where ranges open, -1 where they end."""
    batch, media = item_ids.shape
    edges = item_ids.new_zeros(batch, media + 1)
    sees = (last >= 0).to(edges.dtype)
    edges.scatter_add_(1, first, sees)
    edges.scatter_add_(1, last + 1, -sees)  # a token that sees none adds 0 at slot 0
    return edges[:, :-1].cumsum(1) > 0


def seen_items(
    item_ids: Int[Tensor, "batch media"],
    first: Int[Tensor, "batch text"],
    last: Int[Tensor, "batch text"],
    *,
    num_items: int,
) -> Bool[Tensor, " items"]:
    """Which items of a pool of `num_items` some token sees; reads no value, so it never waits for a device."""
    slots = seen_slots(item_ids, first, last)
    beyond = item_ids.masked_fill(~slots, num_items).flatten()  # slots that nobody sees report past the end
    seen = torch.zeros(num_items + 1, dtype=torch.bool, device=item_ids.device)
    return seen.scatter(0, beyond, value=True)[:-1]


def _seen_ids(item_ids: Tensor, first: Tensor, last: Tensor) -> Tensor:
    seen: Tensor = torch.unique(item_ids[seen_slots(item_ids, first, last) & (item_ids >= 0)])
    return seen.int()


def _piece_size(run_lengths: Tensor) -> int:
    """Piece size with the least work: rows computed, plus a price for each piece, its copy of keys and values.

    At most twice the work of runs that need no cutting and no filling, however their lengths differ: pieces of
    `_PRICE_OF_PIECE` rows guarantee it, and the best size is no worse.
    """
    if run_lengths.numel() == 0:
        return 1
    longest = int(run_lengths.max())
    sizes = torch.tensor(sorted({min(size, longest) for size in _PIECE_SIZES}), device=run_lengths.device)
    pieces = (run_lengths + sizes[:, None] - 1) // sizes[:, None]
    costs = (pieces.sum(1) * (sizes + _PRICE_OF_PIECE)).tolist()  # of all sizes at once: a layout has few runs
    return int(sizes[costs.index(min(costs))])
