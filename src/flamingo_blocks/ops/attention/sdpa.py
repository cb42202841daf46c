"""One call of torch's `scaled_dot_product_attention` with a mask over each row's own items."""

from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from flamingo_blocks.ops._host_reads import is_plain, may_read, on_host
from flamingo_blocks.ops.attention._shared import ScoreBias, bad_items, biased_attention, mark_bad, zeros_in_graph
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout


def refuse(request: Request) -> str | None:
    """Every layout, device and dtype runs."""
    return None


def attend(
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    valid: Bool[Tensor, "items latents"] | None,
    scale: float,
) -> Float[Tensor, "batch text heads head_dim"]:
    """Put each row's own items beside it (never the whole pool) and mask the slots that a token does not see."""
    if layout.item_ids.shape[1] == 0 or key.shape[0] == 0:
        return zeros_in_graph(query, key, value)
    items = layout.item_ids.clamp(min=0)
    bad = bad_items(key, value)
    some_bad = not may_read(bad) or on_host(bad.any())
    own_key, own_value = (_own_items(x, layout.item_ids) for x in (key, value))
    if some_bad:
        hidden = bad[items][:, :, None, None, None]
        own_key, own_value = own_key.masked_fill(hidden, 0), own_value.masked_fill(hidden, 0)
    own_key, own_value = (x.flatten(1, 2) for x in (own_key, own_value))
    bias = _bias(layout, key.shape[1], None if valid is None else valid[items], query.dtype)
    out = biased_attention(query, own_key, own_value, bias, scale)
    return mark_bad(out, (layout.mask() & bad[items][:, None]).any(-1)) if some_bad else out


# Made once for all layers of a model: torch would make floats of a mask in each of them, and keep them for backward.
_biases: "WeakKeyDictionary[MediaLayout, dict[tuple[int, torch.dtype], ScoreBias]]" = WeakKeyDictionary()


def _bias(layout: MediaLayout, latents: int, own_valid: Tensor | None, dtype: torch.dtype) -> ScoreBias:
    """Which latents of its row's items each token sees; remembered while the layout lives, where all latents count."""
    if own_valid is not None or not is_plain(layout.last):
        return _make_bias(layout, latents, own_valid, dtype)
    known = _biases.setdefault(layout, {})
    if (latents, dtype) not in known:
        with torch.inference_mode(mode=False):  # one made in evaluation serves training too
            known[latents, dtype] = _make_bias(layout, latents, None, dtype)
    return known[latents, dtype]


def _make_bias(layout: MediaLayout, latents: int, own_valid: Tensor | None, dtype: torch.dtype) -> ScoreBias:
    sees = layout.mask()[..., None]
    sees = sees.expand(*sees.shape[:-1], latents) if own_valid is None else sees & own_valid[:, None]
    return ScoreBias.of(rearrange(sees, "batch text media latents -> batch text (media latents)"), dtype)


def _own_items(
    x: Float[Tensor, "items latents heads head_dim"], item_ids: Int[Tensor, "batch media"]
) -> Float[Tensor, "batch media latents heads head_dim"]:
    """Each row's items: a view where the rows have as many each, in the order of the pool, and a copy elsewhere."""
    if may_read(item_ids) and item_ids.numel() == x.shape[0]:
        in_order = item_ids.flatten() == torch.arange(x.shape[0])
        if on_host(in_order.all()):
            return x.view(*item_ids.shape, *x.shape[1:])
    return x[item_ids.clamp(min=0)]


BACKEND = Backend(name="sdpa", refuse=refuse, attend=attend)
