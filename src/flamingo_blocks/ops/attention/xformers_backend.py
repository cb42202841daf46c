"""Block-diagonal attention by xformers, for CUDA: one block for each item seen."""

import functools
import importlib.util
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from flamingo_blocks._optional import require
from flamingo_blocks.ops.attention._packed import (
    MAX_HEAD_DIM,
    Blocks,
    Kernel,
    attend_packed,
    define_op,
    fails,
    padded_head_dim,
    refuse_packed,
    with_index,
)
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_masks = WeakTensorKeyDictionary()


def refuse(request: Request) -> str | None:
    """What xformers itself says of such a call; it is imported for requests on CUDA only, which takes seconds."""
    if reason := refuse_packed(request):
        return reason
    if request.dtype not in _DTYPES:
        return f"takes float16, bfloat16 and float32, not {str(request.dtype).removeprefix('torch.')}"
    if request.head_dim > MAX_HEAD_DIM:
        return f"takes heads up to {MAX_HEAD_DIM}, not {request.head_dim}"
    # The width that the kernel meets: some have a least width, and it differs between forward and backward.
    return _refused_here(request.device, request.dtype, padded_head_dim(request.head_dim))


def _refused_here(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here"
    if importlib.util.find_spec("xformers") is None:
        return "xformers is not installed"
    return _fails_here(with_index(device), dtype, head_dim, torch.are_deterministic_algorithms_enabled())


# What `torch.compiler.assume_constant_result` sets: compiled code takes the answer and does not look inside. Calling
# it here would import the compiler with the library.
_refused_here.__dict__["_dynamo_marked_constant"] = True


@functools.cache
def _fails_here(device: torch.device, dtype: torch.dtype, head_dim: int, deterministic: bool) -> str | None:  # noqa: FBT001
    try:
        _fmha()
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # built for another torch, another flash-attn
        return f"importing xformers fails: {str(error).strip().splitlines()[0]}"
    operators, reasons = _operators(device, dtype, head_dim, deterministic)
    return fails(KERNEL, device, dtype, head_dim) if operators else "; ".join(reasons)


@functools.cache
def _operators(
    device: torch.device,
    dtype: torch.dtype,
    head_dim: int,
    deterministic: bool,  # noqa: FBT001  # part of the key: what xformers allows depends on it
) -> tuple[tuple[Any, Any] | None, list[str]]:
    """The first pair of forward and backward operators that xformers allows, or why it allows none.

    Left alone, xformers chooses the two apart, and then finds that the backward cannot read what the forward left.
    """
    fmha = _fmha()
    rows = torch.zeros(1, 1, 1, head_dim, device=device, dtype=dtype)
    mask = fmha.attn_bias.BlockDiagonalMask.from_seqlens([1], [1], device=device)
    inputs = fmha.Inputs(query=rows, key=rows, value=rows, attn_bias=mask, scale=1.0)
    refused = []
    for family in ("flash3", "flash", "cutlass"):
        if (module := getattr(fmha, family, None)) is None:
            continue
        reasons = module.FwOp.not_supported_reasons(inputs) + module.BwOp.not_supported_reasons(inputs)
        if not reasons:
            return (module.FwOp, module.BwOp), []
        refused.append(f"{family}: {', '.join(dict.fromkeys(reasons))}")
    return None, refused


def attend(
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    valid: Bool[Tensor, "items latents"] | None,
    scale: float,
) -> Float[Tensor, "batch text heads head_dim"]:
    """Compute only the pairs that are needed, in one launch."""
    return attend_packed(_op, query, key, value, layout, scale)


def _forward(query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> tuple[Tensor, Tensor]:
    rows = (x[None] for x in (query, key, value))
    forward_op, _ = _operators_for(query)
    out, lse = _fmha().memory_efficient_attention_forward_requires_grad(
        *rows, attn_bias=block_diagonal_mask(blocks), scale=scale, op=forward_op
    )
    return out[0], lse[0] if forward_op.VARLEN_LSE_PACKED else _pack(lse, blocks)


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, blocks: Blocks, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    _, backward_op = _operators_for(query)
    lse = lse[None] if backward_op.VARLEN_LSE_PACKED else _unpack(lse, blocks)
    grads = _fmha().memory_efficient_attention_backward(
        grad[None], out[None], lse, query[None], key[None], value[None],
        attn_bias=block_diagonal_mask(blocks), scale=scale, op=backward_op,
    )  # fmt: skip
    return grads[0][0], grads[1][0], grads[2][0]


def block_diagonal_mask(blocks: Blocks) -> Any:
    """The `BlockDiagonalMask` of the blocks: made once of the host's integers, with the starts that the device has.

    `from_seqlens` would copy the starts to the device in every layer. What it makes is remembered on the CPU, while the
    integers live; device tensors are not, for those made while a graph is recorded belong to the graph.
    """
    if blocks.host_query_starts not in _masks:
        _masks[blocks.host_query_starts] = {}
    known = _masks[blocks.host_query_starts]
    if blocks.latents not in known:
        lengths = blocks.query_lengths
        made = _fmha().attn_bias.BlockDiagonalMask.from_seqlens(
            lengths, [blocks.latents] * len(lengths), device=torch.device("cpu")
        )
        known[blocks.latents] = made
    mask = known[blocks.latents]
    return replace(
        mask,
        q_seqinfo=replace(mask.q_seqinfo, seqstart=blocks.query_starts),
        k_seqinfo=replace(mask.k_seqinfo, seqstart=blocks.key_starts),
    )


def _pack(lse: Tensor, blocks: Blocks) -> Tensor:
    """Log-sum-exp [blocks heads longest], as CUTLASS leaves it, row by row: [heads rows]."""
    block, place = _places(blocks)
    return lse[block, :, place].T.contiguous()


def _unpack(lse: Tensor, blocks: Blocks) -> Tensor:
    """As CUTLASS wants it back: 32 rows at a time, infinity where a block has no row."""
    block, place = _places(blocks)
    longest = -(-max(blocks.query_lengths) // 32) * 32
    padded = lse.new_full((len(blocks.query_lengths), lse.shape[0], longest), float("inf"))
    padded[block, :, place] = lse.T
    return padded


def _places(blocks: Blocks) -> tuple[Tensor, Tensor]:
    """The block of each row, and its place within the block."""
    rows = torch.arange(sum(blocks.query_lengths), device=blocks.query_starts.device, dtype=torch.int32)
    block = torch.searchsorted(blocks.query_starts[1:], rows, right=True)
    return block, rows - blocks.query_starts.index_select(0, block)


def _operators_for(query: Tensor) -> tuple[Any, Any]:
    deterministic = torch.are_deterministic_algorithms_enabled()
    operators, _ = _operators(query.device, query.dtype, padded_head_dim(query.shape[-1]), deterministic)
    assert operators is not None
    return operators


def _fmha() -> ModuleType:
    fmha: ModuleType = require("xformers.ops.fmha", used_by="the attention backend `xformers`", extra="xformers")
    return fmha


KERNEL = Kernel(_forward, _backward)
_op = define_op("xformers_attention", KERNEL)
BACKEND = Backend(name="xformers", refuse=refuse, attend=attend)
