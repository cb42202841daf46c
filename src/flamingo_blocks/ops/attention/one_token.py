"""Decoding: one text token a row takes its own item; no plan, and no cost that grows with the pool."""

from itertools import pairwise
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops._host_reads import may_read, on_host
from flamingo_blocks.ops.attention._shared import masked_attention, refuse_ranges, zeros_in_graph
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.attention_plan import item_of_token
from flamingo_blocks.ops.media_layout import MediaLayout


def refuse(request: Request) -> str | None:
    """One text token a row, which sees one item."""
    if request.layout is not None and request.layout.num_text != 1:
        return "takes one text token a row"  # without the number: writing it out would compile a graph for each
    return refuse_ranges(request.layout)


def attend(
    query: Float[Tensor, "batch 1 heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    valid: Bool[Tensor, "items latents"] | None,
    scale: float,
) -> Float[Tensor, "batch 1 heads head_dim"]:
    """Take each row's item and attend to it; rows that see nothing are wiped."""
    if key.shape[0] == 0:
        return zeros_in_graph(query, key, value)
    if (rows := _evenly_spaced(layout)) is not None:
        own_valid = None if valid is None else _view(valid, *rows)[:, None]
        return masked_attention(query, _view(key, *rows), _view(value, *rows), own_valid, scale)
    item = item_of_token(layout.item_ids, layout.last)[:, 0]
    blind = (item < 0)[:, None, None, None]
    item = item.clamp(min=0)
    own_key, own_value = key.index_select(0, item), value.index_select(0, item)
    if torch.is_grad_enabled():  # a NaN in the item that stands in for none would reach the gradients
        own_key, own_value = own_key.masked_fill(blind, 0), own_value.masked_fill(blind, 0)
    own_valid = None if valid is None else valid.index_select(0, item)[:, None]
    return masked_attention(query, own_key, own_value, own_valid, scale).masked_fill(blind, 0)


_spaced: "WeakKeyDictionary[MediaLayout, tuple[int, int, int] | None]" = WeakKeyDictionary()


def _evenly_spaced(layout: MediaLayout) -> tuple[int, int, int] | None:
    """First item, distance and number of the rows' items, where none is without and all lie at one distance.

    A view of the pool holds them then: those of one row, of rows with as many items each, and of beams, which see the
    same one. Asked on the CPU, once for all layers; `None` where a copy is needed, or asking would wait for a device.
    """
    if not may_read(layout.last):
        return None
    if layout not in _spaced:
        items = on_host(item_of_token(layout.item_ids, layout.last)[:, 0])
        steps = {after - before for before, after in pairwise(items)} or {0}
        even = len(steps) == 1 and min(steps) >= 0 and min(items, default=-1) >= 0
        _spaced[layout] = (items[0], min(steps), len(items)) if even else None
    return _spaced[layout]


def _view(pool: Tensor, first: int, step: int, rows: int) -> Tensor:
    """The items of the rows, one behind the other, without a copy."""
    if rows == pool.shape[0] and step == 1:
        return pool
    if step == 0:
        return pool[first].expand(rows, *pool.shape[1:])
    return pool[first : first + (rows - 1) * step + 1 : step]


BACKEND = Backend(name="one_token", refuse=refuse, attend=attend)
