"""One call of torch's `scaled_dot_product_attention` with a bool mask over each row's own items."""

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops.attention._shared import masked_attention, zeros_in_graph
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
    """Copy each row's own items beside it (never the whole pool) and mask the slots that a token does not see."""
    if layout.item_ids.shape[1] == 0 or key.shape[0] == 0:
        return zeros_in_graph(query, key, value)
    items = layout.item_ids.clamp(min=0)
    sees_slot = layout.mask()
    sees = sees_slot[..., None].expand(*sees_slot.shape, key.shape[1])
    if valid is not None:
        sees = sees & valid[items][:, None]
    # A masked score of NaN is still NaN: items that are not finite are hidden, and the tokens that see them told so.
    finite = torch.isfinite(key).flatten(1).all(1) & torch.isfinite(value).flatten(1).all(1)
    keep = finite[:, None, None, None]
    own_key, own_value = (
        rearrange(torch.where(keep, x, 0)[items], "batch media latents heads dim -> batch (media latents) heads dim")
        for x in (key, value)
    )
    sees = rearrange(sees, "batch text media latents -> batch text (media latents)")
    out = masked_attention(query, own_key, own_value, sees, scale)
    sees_bad = (sees_slot & ~finite[items][:, None]).any(-1)
    return out + torch.zeros_like(out).masked_fill(sees_bad[..., None, None], float("nan"))


BACKEND = Backend(name="sdpa", refuse=refuse, attend=attend)
