"""Block-diagonal attention by the flash kernel that comes with torch, for CUDA: one block for each item seen."""

import functools

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops.attention._packed import (
    Blocks,
    Kernel,
    attend_packed,
    define_op,
    fails,
    refuse_packed,
    size_of_kernel,
    with_index,
)
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout

_DTYPES = (torch.float16, torch.bfloat16)


def refuse(request: Request) -> str | None:
    """What the flash kernel takes: CUDA from Ampere on, half precision, heads up to 256, one item a token."""
    if reason := refuse_packed(request):
        return reason
    if request.dtype not in _DTYPES:
        return f"takes float16 and bfloat16, not {str(request.dtype).removeprefix('torch.')}"
    head_dim = size_of_kernel(request.head_dim)
    if head_dim is None:
        return f"takes heads up to 256, not {request.head_dim}"
    return _refused_here(request.device, request.dtype, head_dim, request.requires_grad)


def _refused_here(device: torch.device, dtype: torch.dtype, head_dim: int, requires_grad: bool) -> str | None:  # noqa: FBT001
    if not torch.cuda.is_available():
        return "torch sees no CUDA device here"
    if torch.version.hip is not None:
        return "is tested with NVIDIA's CUDA only"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of torch comes without flash attention"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"needs compute capability 8.0, this device has {capability[0]}.{capability[1]}"
    # These devices have too little shared memory for the backward pass; torch's own attention refuses it as well.
    if requires_grad and head_dim == 224 and ((8, 0) < capability < (9, 0) or capability >= (12, 0)):
        return "has no backward pass for heads of 193 to 224 on this device"
    return _fails_here(with_index(device), dtype, head_dim, requires_grad)


# What `torch.compiler.assume_constant_result` sets: compiled code takes the answer and does not look inside. Calling
# it here would import the compiler with the library.
_refused_here.__dict__["_dynamo_marked_constant"] = True


@functools.cache
def _fails_here(device: torch.device, dtype: torch.dtype, head_dim: int, requires_grad: bool) -> str | None:  # noqa: FBT001
    return fails(KERNEL, device, dtype, head_dim, requires_grad=requires_grad)


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


# `torch.nn.attention.varlen.varlen_attn` calls these two operators and nothing else. We call them ourselves: it takes
# the longest run as a Python integer, so that it cannot stand in compiled code whose lengths are in a tensor; inside
# our operator autograd does not reach it, and it has no public backward; and its arguments differ between versions.
def _forward(query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, scale: float) -> tuple[Tensor, Tensor]:
    out, lse, *_ = torch.ops.aten._flash_attention_forward(  # noqa: SLF001
        query, key, value, blocks.query_starts, blocks.key_starts, max(blocks.query_lengths), blocks.latents,
        0.0, False, False, scale=scale,
    )  # fmt: skip
    return out, lse


def _backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, blocks: Blocks, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    # The random state of a dropout that there is not, of the kind that the forward pass would give.
    state = torch.zeros(2, dtype=torch.uint64, device=query.device)
    unused = torch.empty(0, dtype=torch.uint64, device=query.device)
    grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(  # noqa: SLF001
        grad, query, key, value, out, lse, blocks.query_starts, blocks.key_starts, max(blocks.query_lengths),
        blocks.latents, 0.0, False, state, unused, scale=scale,
    )  # fmt: skip
    return grads


KERNEL = Kernel(_forward, _backward)
_op = define_op("varlen_attention", KERNEL)
BACKEND = Backend(name="varlen", refuse=refuse, attend=attend)
