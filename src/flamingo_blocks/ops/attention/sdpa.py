"""One call of torch's `scaled_dot_product_attention` with a bool mask over each row's own items."""

from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops.attention._shared import hide_bad_items, mark_bad, masked_attention, zeros_in_graph
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
    key, value, bad = hide_bad_items(key, value)
    own_key, own_value = (
        rearrange(x[items], "batch media latents heads dim -> batch (media latents) heads dim") for x in (key, value)
    )
    sees = rearrange(sees, "batch text media latents -> batch text (media latents)")
    out = masked_attention(query, own_key, own_value, sees, scale)
    return mark_bad(out, (sees_slot & bad[items][:, None]).any(-1))


BACKEND = Backend(name="sdpa", refuse=refuse, attend=attend)
