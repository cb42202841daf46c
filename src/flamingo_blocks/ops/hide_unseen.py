"""Zero the items of a pool that no token sees."""

import torch
from jaxtyping import Float
from torch import Tensor

from flamingo_blocks.ops._layout_checks import check_pool
from flamingo_blocks.ops.attention_plan import seen_items
from flamingo_blocks.ops.media_layout import MediaLayout


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
    check_pool(layout.item_ids, pool.shape[0])
    seen = seen_items(layout.item_ids, layout.first, layout.last, num_items=pool.shape[0])
    return pool.masked_fill(~seen.to(pool.device).view(-1, *[1] * (pool.ndim - 1)), 0)
