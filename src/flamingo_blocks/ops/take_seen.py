"""Leave out, or blank, the items of a pool that no token sees."""

from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops._host_reads import may_read, on_host
from flamingo_blocks.ops._layout_checks import check_pool
from flamingo_blocks.ops.attention_plan import AttentionPlan, seen_items
from flamingo_blocks.ops.media_layout import MediaLayout


def take_seen(
    pool: Float[Tensor, "items ..."], valid: Bool[Tensor, "items latents"] | None, layout: MediaLayout
) -> tuple[Float[Tensor, "seen ..."], Bool[Tensor, "seen latents"] | None, MediaLayout]:
    """Keep the items that some token sees, so that nothing is computed for the others.

    A layout with a plan lists them. Without one the others are zeroed where gradients are taken, as `hide_unseen` does.

    Args:
        pool: Tokens of each item.
        valid: Tokens that count.
        layout: Which token sees which item.

    Returns:
        The pool, the flags and the layout of the seen items, in their order; all as they were where all are seen.

    Raises:
        ValueError: If the layout names items that the pool does not hold.

    Example:
        >>> layout = MediaLayout.from_tokens(torch.tensor([[True, False]]), item_ids=torch.tensor([[2]])).prepare()
        >>> pool, _, layout = take_seen(torch.arange(4.0), None, layout)
        >>> pool, layout.item_ids
        (tensor([2.]), tensor([[0]]))
    """
    if layout.plan is None:
        return hide_unseen(pool, layout), valid, layout
    check_pool(layout, pool.shape[0])
    seen = layout.plan.seen
    if seen.shape[0] == pool.shape[0]:
        return pool, valid, layout
    valid = None if valid is None else valid.index_select(0, seen)
    return pool.index_select(0, seen), valid, _renumber(layout, layout.plan)


def hide_unseen(pool: Float[Tensor, "items ..."], layout: MediaLayout | None) -> Float[Tensor, "items ..."]:
    """Zero the items that no token sees, where gradients are taken.

    Their gradient is 0 already, but 0 times a NaN of theirs would still reach the weights of whatever comes next.

    Args:
        pool: Features or tokens of each item.
        layout: Which token sees which item; without one nothing is hidden.

    Returns:
        The pool, seen items as they were.

    Raises:
        ValueError: If the layout names items that the pool does not hold.

    Example:
        >>> layout = MediaLayout.from_tokens(torch.tensor([[True, False]]))
        >>> hide_unseen(torch.ones(2, 1), layout)
        tensor([[1.],
                [0.]])
    """
    if layout is None or not torch.is_grad_enabled():
        return pool
    check_pool(layout, pool.shape[0])
    if layout.plan is not None and layout.plan.seen.shape[0] == pool.shape[0]:
        return pool
    seen = seen_items(layout.item_ids, layout.first, layout.last, num_items=pool.shape[0])
    if may_read(seen) and on_host(seen.all()):
        return pool  # each block would keep a copy of its own
    return pool.masked_fill(~seen.to(pool.device).view(-1, *[1] * (pool.ndim - 1)), 0)


_renumbered: "WeakKeyDictionary[MediaLayout, MediaLayout]" = WeakKeyDictionary()


def _renumber(layout: MediaLayout, plan: AttentionPlan) -> MediaLayout:
    """The layout of the pool that holds the seen items only, made once for all blocks."""
    if torch.compiler.is_compiling():
        return _count_seen_only(layout, plan)
    if layout not in _renumbered:
        with torch.inference_mode(mode=False):  # one made in evaluation serves training too
            _renumbered[layout] = _count_seen_only(layout, plan)
    return _renumbered[layout]


def _count_seen_only(layout: MediaLayout, plan: AttentionPlan) -> MediaLayout:
    """The layout with ids of the seen items; ids that nobody sees become others that nobody sees."""
    last = max(plan.seen.shape[0] - 1, 0)
    item_ids = torch.searchsorted(plan.seen, layout.item_ids.to(plan.seen.dtype)).clamp(max=last)
    item_ids = item_ids.masked_fill(layout.item_ids < 0, -1)
    items = plan.piece_items
    new = replace(
        plan,
        seen=torch.arange(plan.seen.shape[0], dtype=torch.int32, device=plan.seen.device),
        host_pool_size=torch.full_like(plan.host_pool_size, plan.seen.shape[0]),
        piece_items=None if items is None else torch.searchsorted(plan.seen, items, out_int32=True),
    )
    return replace(layout, item_ids=item_ids, plan=new)
