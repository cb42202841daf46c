"""Torch's `flex_attention` with a block mask over each row's own items: any layout, and no scores in memory on CUDA."""

import functools
import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils._triton import has_triton

from flamingo_blocks.ops.attention._shared import hide_bad_items, mark_bad, zeros_in_graph
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout

_MAX_KERNELS = 1024
_CUDA_DTYPES = (torch.float32, torch.float16, torch.bfloat16)

# One block mask for a layout and a number of latents, and one more for calls with a mask of latents.
_block_masks: "WeakKeyDictionary[MediaLayout, dict[tuple[int, bool], BlockMask]]" = WeakKeyDictionary()


def refuse(request: Request) -> str | None:
    """On CUDA what its kernel cannot take; on the CPU the backward pass, which torch does not have."""
    if torch.compiler.is_compiling():
        return "remembers its block mask from layer to layer, which compiled code cannot; it compiles its kernel itself"
    if request.device.type == "cpu":
        return "has no backward pass on the CPU" if request.requires_grad else None
    if request.device.type != "cuda":
        return f"runs on CUDA and on the CPU, not on {request.device.type}"
    if request.dtype not in _CUDA_DTYPES:
        return f"takes float32, float16 and bfloat16 on CUDA, not {str(request.dtype).removeprefix('torch.')}"
    if request.head_dim < 16:  # the smallest product of a tensor core
        return f"takes heads of 16 or wider on CUDA, not {request.head_dim}"
    return None if has_triton() else "needs triton, which is not installed or does not know this device"


@functools.cache
def _kernel() -> Callable[..., Tensor]:
    """Compiled at the first call on CUDA; without compilation the scores would be in memory."""
    compiled: Callable[..., Tensor] = torch.compile(flex_attention, fullgraph=True)
    return compiled


def attend(
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    valid: Bool[Tensor, "items latents"] | None,
    scale: float,
) -> Float[Tensor, "batch text heads head_dim"]:
    """Copy each row's own items beside it, as `sdpa` does, and skip the blocks that no token of theirs sees."""
    num_slots, latents = layout.item_ids.shape[1], key.shape[1]
    if query.numel() == 0 or num_slots * latents == 0 or key.shape[0] == 0:
        return zeros_in_graph(query, key, value)
    items = layout.item_ids.clamp(min=0)
    key, value, bad = hide_bad_items(key, value)
    pattern = "batch media latents heads dim -> batch heads (media latents) dim"
    own_key, own_value = (rearrange(x[items], pattern) for x in (key, value))
    own_valid = None if valid is None else valid[items].flatten(1)
    groups = query.shape[2] // key.shape[2]
    if groups & (groups - 1):  # the kernel for few tokens takes groups of a power of two only
        own_key, own_value = (x.repeat_interleave(groups, dim=1) for x in (own_key, own_value))
    out = _flex(query.transpose(1, 2), own_key, own_value, _block_mask(layout, latents, own_valid), scale)
    sees_slot = layout.mask()
    # Torch promises nothing for rows that are masked throughout.
    blind = ~(sees_slot if valid is None else sees_slot & valid.any(1)[items][:, None]).any(-1)
    out = out.transpose(1, 2).masked_fill(blind[..., None, None], 0)
    return mark_bad(out, (sees_slot & bad[items][:, None]).any(-1))


def _flex(query: Tensor, key: Tensor, value: Tensor, block_mask: BlockMask, scale: float) -> Tensor:
    gqa = query.shape[1] != key.shape[1]
    if query.device.type == "cuda":
        kernel = _kernel()
        # Batches differ in text, items and rows of one; the compiler would give up after eight kinds.
        limit = {"recompile_limit": _MAX_KERNELS, "accumulated_recompile_limit": _MAX_KERNELS}
        with torch._dynamo.config.patch(limit):  # noqa: SLF001 -- its public name
            return kernel(query, key, value, block_mask=block_mask, scale=scale, enable_gqa=gqa)
    if not torch.is_grad_enabled():  # torch looks at the flags of the tensors alone, and has no backward pass here
        query, key, value = query.detach(), key.detach(), value.detach()
    with warnings.catch_warnings():  # on the CPU it is there to be compared with, not to be fast
        warnings.filterwarnings("ignore", "flex_attention called without torch.compile")
        out: Tensor = flex_attention(query, key, value, block_mask=block_mask, scale=scale, enable_gqa=gqa)
    return out


def _sees(first: Tensor, last: Tensor, latents: int) -> Callable[..., Tensor]:
    """Whether a token of a row sees the item at a place among its keys; a lambda, for the compiler must read it."""
    return lambda row, _, token, place: (
        (first[row, token] <= place // latents) & (place // latents <= last[row, token])
    )  # fmt: skip


def _block_mask(layout: MediaLayout, latents: int, own_valid: Tensor | None) -> BlockMask:
    """The layout's mask, made once; with a mask of latents its blocks are the same, and each is masked in full."""
    masks = _block_masks.setdefault(layout, {})
    kind = (latents, own_valid is None)
    sees = _sees(layout.first, layout.last, latents)
    if kind not in masks:
        rows, text = layout.last.shape
        columns = layout.item_ids.shape[1] * latents
        with torch.inference_mode(mode=False):  # a mask made in evaluation serves training too
            made = create_block_mask(sees, rows, None, text, columns, device=str(layout.last.device))
            masks[kind] = made if own_valid is None else _without_full_blocks(made)
    if own_valid is None:
        return masks[kind]
    blocks = masks[kind]
    both: BlockMask = BlockMask.from_kv_blocks(
        blocks.kv_num_blocks, blocks.kv_indices, BLOCK_SIZE=blocks.BLOCK_SIZE, seq_lengths=blocks.seq_lengths,
        mask_mod=lambda row, head, token, place: sees(row, head, token, place) & own_valid[row, place],
    )  # fmt: skip
    return both


def _without_full_blocks(mask: BlockMask) -> BlockMask:
    """The same blocks, each to be masked in full; `create_block_mask` can be told so only from torch 2.13 on."""
    seen = mask.to_dense()
    counts, order = seen.sum(-1).int(), seen.argsort(dim=-1, descending=True, stable=True).int()
    partial: BlockMask = BlockMask.from_kv_blocks(
        counts, order, BLOCK_SIZE=mask.BLOCK_SIZE, mask_mod=mask.mask_mod, seq_lengths=mask.seq_lengths
    )
    return partial


BACKEND = Backend(name="flex", refuse=refuse, attend=attend)
