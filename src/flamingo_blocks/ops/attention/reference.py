"""The oracle: gather what each token sees, softmax in float32, in plain torch."""

import torch
from einops import einsum, rearrange, repeat
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops.attention._shared import hide_bad_items, mark_bad, zeros_in_graph
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout


def refuse(request: Request) -> str | None:
    """Nothing is refused, except in compiled code: the width of the widest range is read from the layout."""
    return "reads values of the layout, which compiled code cannot" if torch.compiler.is_compiling() else None


def attend(
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    valid: Bool[Tensor, "items latents"] | None,
    scale: float,
) -> Float[Tensor, "batch text heads head_dim"]:
    """Gather for each token the slots `first..last`, and mask what lies beyond its own range."""
    width = int((layout.last - layout.first).max()) + 1 if layout.last.numel() else 0
    if width == 0 or key.shape[0] == 0:
        return zeros_in_graph(query, key, value)
    slots = layout.first[..., None] + torch.arange(width, device=layout.first.device)
    sees = slots <= layout.last[..., None]
    slots = slots.clamp(max=layout.item_ids.shape[1] - 1)
    rows = torch.arange(slots.shape[0], device=slots.device)[:, None, None]
    items = layout.item_ids[rows, slots].clamp(min=0)  # batch text width
    key, value, bad = hide_bad_items(key, value)
    sees_bad = (sees & bad[items]).any(-1)
    sees = repeat(sees, "batch text width -> batch text width latents", latents=key.shape[1])
    if valid is not None:
        sees = sees & valid[items]
    sees = rearrange(sees, "batch text width latents -> batch text 1 (width latents)")
    groups = query.shape[2] // key.shape[2]
    wide = torch.promote_types(query.dtype, torch.float32)

    def gathered(x: Tensor) -> Tensor:
        pattern = "batch text width latents kv_heads head_dim -> batch text (kv_heads groups) (width latents) head_dim"
        x = repeat(x.to(wide)[items], pattern, groups=groups)
        return x.masked_fill(~sees[..., None], 0)

    axes = "batch text heads head_dim, batch text heads tokens head_dim -> batch text heads tokens"
    scores = einsum(query.to(wide), gathered(key), axes) * scale
    some = sees.any(-1, keepdim=True)
    weights = scores.masked_fill(~sees & some, float("-inf")).softmax(-1).masked_fill(~some, 0)
    axes = "batch text heads tokens, batch text heads tokens head_dim -> batch text heads head_dim"
    return mark_bad(einsum(weights, gathered(value), axes).to(query.dtype), sees_bad)


BACKEND = Backend(name="reference", refuse=refuse, attend=attend)
