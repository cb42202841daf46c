"""Attention without a mask: tokens grouped by the item they see, cut into pieces, the pieces batched."""

from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops._host_reads import may_read, on_host
from flamingo_blocks.ops.attention._shared import masked_attention, plan_of, refuse_unplanned, zeros_in_graph
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.attention_plan import AttentionPlan
from flamingo_blocks.ops.media_layout import MediaLayout

_known_in_place: "WeakKeyDictionary[AttentionPlan, bool]" = WeakKeyDictionary()


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
    tokens, in_place = query.flatten(0, 1), _in_place(plan)
    if not in_place:  # a piece shorter than the others is filled with a token of its own, whose second result is unread
        tokens = tokens.index_select(0, plan.pieces.flatten())
    cut = tokens.view(*plan.pieces.shape, *tokens.shape[1:])
    if not _one_piece_an_item(plan, key.shape[0]):
        key, value = key.index_select(0, plan.piece_items), value.index_select(0, plan.piece_items)
        valid = None if valid is None else valid.index_select(0, plan.piece_items)
    out = masked_attention(cut, key, value, None if valid is None else valid[:, None], scale).flatten(0, 1)
    if in_place:
        return out.view(query.shape)
    if not _all_see(plan, query.shape[:2].numel()):
        out = torch.cat([out, out.new_zeros(1, *out.shape[1:])])
    return out.index_select(0, plan.positions).view(query.shape)


# Compiled code takes the general way: a graph for each answer to these questions would be made otherwise.
def _one_piece_an_item(plan: AttentionPlan, num_items: int) -> bool:
    """Whether the pieces are the items of the pool, one each and in order, so that keys and values need no copy."""
    assert plan.pieces is not None
    return not torch.compiler.is_compiling() and plan.pieces.shape[0] == plan.seen.shape[0] == num_items


def _in_place(plan: AttentionPlan) -> bool:
    """Whether the tokens stand as the pieces want them, all of them: asked on the CPU, once for all layers."""
    assert plan.pieces is not None and plan.positions is not None
    if torch.compiler.is_compiling() or plan.pieces.numel() != plan.positions.shape[0] or not may_read(plan.positions):
        return False
    if plan not in _known_in_place:
        _known_in_place[plan] = on_host((plan.positions == torch.arange(plan.positions.shape[0])).all())
    return _known_in_place[plan]


def _all_see(plan: AttentionPlan, num_tokens: int) -> bool:
    """Whether every token sees an item, so that no place for zeros is needed."""
    assert plan.tokens is not None
    return not torch.compiler.is_compiling() and plan.tokens.shape[0] == num_tokens


BACKEND = Backend(name="runs", refuse=refuse, attend=attend)
