"""Attention without a mask: tokens grouped by the item they see, cut into pieces, the pieces batched."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops.attention._shared import masked_attention, plan_of, refuse_unplanned, zeros_in_graph
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout


def refuse(request: Request) -> str | None:
    """One item a token; a layout that is not prepared cannot be planned in compiled code."""
    return refuse_unplanned(request.layout)


def attend(
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    valid: Bool[Tensor, "items latents"] | None,
    scale: float,
) -> Float[Tensor, "batch text heads head_dim"]:
    """Compute only the pairs that are needed: the cost does not depend on the number of items."""
    if key.shape[0] == 0:
        return zeros_in_graph(query, key, value)
    plan = plan_of(layout)
    assert plan.pieces is not None and plan.piece_items is not None and plan.positions is not None
    tokens = query.flatten(0, 1)
    nobody = tokens.new_zeros(1, *tokens.shape[1:])  # fills short pieces, and is what tokens that see nothing get
    out = masked_attention(
        torch.cat([tokens, nobody])[plan.pieces],
        key.index_select(0, plan.piece_items),
        value.index_select(0, plan.piece_items),
        None if valid is None else valid.index_select(0, plan.piece_items)[:, None],
        scale,
    )
    return torch.cat([out.flatten(0, 1), nobody]).index_select(0, plan.positions).view(query.shape)


BACKEND = Backend(name="runs", refuse=refuse, attend=attend)
