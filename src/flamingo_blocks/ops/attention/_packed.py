"""What the block-diagonal kernels share: packing tokens by the item they see, and one operator around each kernel."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from flamingo_blocks.ops.attention._shared import plan_of, refuse_unplanned
from flamingo_blocks.ops.attention.backend import Request
from flamingo_blocks.ops.media_layout import MediaLayout

_MAX_BLOCKS = 65535  # the kernels count blocks along an axis of the launch grid that ends here
_HEAD_DIMS = (32, 64, 96, 128, 160, 192, 224, 256)
MAX_HEAD_DIM = _HEAD_DIMS[-1]
_lengths = WeakTensorKeyDictionary()


@dataclass(frozen=True)
class Blocks:
    """Which packed rows belong together: block i is one item, the tokens that see it, and its latents.

    Args:
        query_starts: Where the tokens of each block begin, and the end of the last; int32 on the device.
        key_starts: As `query_starts`, for the latents.
        host_query_starts: The numbers of `query_starts`, on the CPU.
        latents: Latents of one item.
    """

    query_starts: Tensor
    key_starts: Tensor
    host_query_starts: Tensor
    latents: int

    @property
    def query_lengths(self) -> list[int]:
        """Tokens of each block; remembered while the tensor lives, for every layer asks again."""
        if self.host_query_starts not in _lengths:
            starts = self.host_query_starts.tolist()
            _lengths[self.host_query_starts] = [stop - start for start, stop in pairwise(starts)]
        lengths: list[int] = _lengths[self.host_query_starts]
        return lengths


@dataclass(frozen=True)
class Kernel:
    """Attention within blocks, on packed rows `[rows heads head_dim]`; `head_dim` is a multiple of 8, no row is empty.

    Args:
        forward: Takes query, key, value, blocks and scale; gives the output, and its log-sum-exp `[heads rows]`.
        backward: Takes the output's gradient, query, key, value, output, log-sum-exp, blocks and scale; gives the
            gradients of query, key and value.
    """

    forward: Callable[[Tensor, Tensor, Tensor, Blocks, float], tuple[Tensor, Tensor]]
    backward: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Blocks, float], tuple[Tensor, Tensor, Tensor]]


def attend_packed(
    op: Callable[..., tuple[Tensor, Tensor]],
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    scale: float,
) -> Float[Tensor, "batch text heads head_dim"]:
    """Hand the layout's plan to an operator of `define_op`."""
    plan = plan_of(layout)
    assert plan.tokens is not None and plan.places is not None
    assert plan.run_starts is not None and plan.host_run_starts is not None
    if scale <= 0:  # the kernels subtract the largest score before they scale
        query, scale = query * scale, 1.0
    packing = plan.seen, plan.tokens, plan.places, plan.run_starts, plan.host_run_starts
    return op(query, key, value, *packing, scale)[0]


def refuse_packed(request: Request) -> str | None:
    """What no block-diagonal kernel runs, or `None`."""
    if request.device.type != "cuda":
        return f"runs on CUDA, not on {request.device.type}"
    if request.has_valid:
        return "has no place for `valid`, a mask of latents"
    if reason := refuse_unplanned(request.layout):
        return reason
    if request.layout is not None and plan_of(request.layout).seen.shape[0] > _MAX_BLOCKS:
        return f"takes at most {_MAX_BLOCKS} seen items"
    return None


def size_of_kernel(head_dim: int) -> int | None:
    """The width up to which a kernel is built that takes this head; `None` above 256.

    Asking for one width of a few lets compiled code keep `head_dim` unknown.
    """
    return next((size for size in _HEAD_DIMS if head_dim <= size), None)


def padded_head_dim(head_dim: int) -> int:
    """The width of a head as the kernels get it, up to 256: rows start at multiples of 16 bytes.

    One of a few, as in `size_of_kernel`: to compiled code the sum would be as unknown as `head_dim` is.
    """
    return next(width for width in range(8, MAX_HEAD_DIM + 1, 8) if head_dim <= width)


def with_index(device: torch.device) -> torch.device:
    """The device that `"cuda"` means now: what is found out on one device is no answer for another."""
    return torch.device("cuda", torch.cuda.current_device()) if str(device) == "cuda" else device


def fails(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, head_dim: int, *, requires_grad: bool = True
) -> str | None:
    """Why a call on one token fails on this device, or `None`: being installed proves little.

    Its backward pass as well, unless none is asked for: some devices have the one and not the other.
    """
    x = torch.zeros(1, 1, 1, head_dim, device=device, dtype=dtype)
    index = torch.zeros(1, device=device, dtype=torch.int32)
    plan = (index, index, index, torch.arange(2, device=device, dtype=torch.int32), torch.arange(2, dtype=torch.int32))
    try:
        out, lse = forward(kernel, x, x, x, *plan, 1.0)
        if requires_grad:
            backward(kernel, x, x, x, x, *plan, out, lse, 1.0)
    except torch.OutOfMemoryError:
        raise  # it says nothing of the kernel, and the answer is remembered
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip() or type(error).__name__
        return f"a call on one token fails here: {reason.splitlines()[0]}"
    return None


def define_op(name: str, kernel: Kernel) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make one operator of a kernel and the steps around it, forward and backward.

    One operator around all of it, for four reasons. The kernels want the longest run as a Python integer, which
    compiled code may not read from a tensor; inside an operator it may, and `host_run_starts` never waits for a device.
    The steps back are gathers, which autograd would make scattered additions: a token stands in one place only, and it
    does not know. The packed copies are made again in the backward pass, so that none is kept. And what is empty is
    told apart at run time, not by a graph of its own.
    """
    plan = "Tensor seen, Tensor tokens, Tensor places, Tensor run_starts, Tensor host_run_starts"
    inputs = f"Tensor query, Tensor key, Tensor value, {plan}"
    # Recorded launches would keep the lengths of the batch they were recorded with.
    tags = (torch.Tag.cudagraph_unsafe,)

    def run_forward(
        query: Tensor, key: Tensor, value: Tensor, seen: Tensor, tokens: Tensor, places: Tensor,
        run_starts: Tensor, host_run_starts: Tensor, scale: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        return forward(kernel, query, key, value, seen, tokens, places, run_starts, host_run_starts, scale)

    def run_backward(
        grad: Tensor, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, tokens: Tensor, places: Tensor,
        run_starts: Tensor, host_run_starts: Tensor, out: Tensor, lse: Tensor, scale: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        plan = seen, tokens, places, run_starts, host_run_starts
        return backward(kernel, grad, query, key, value, *plan, out, lse, scale)

    op = torch.library.custom_op(
        f"flamingo_blocks::{name}", run_forward, mutates_args=(), tags=tags,
        schema=f"({inputs}, float scale) -> (Tensor, Tensor)",
    )  # fmt: skip
    backward_op = torch.library.custom_op(
        f"flamingo_blocks::{name}_backward", run_backward, mutates_args=(), tags=tags,
        schema=f"(Tensor grad, {inputs}, Tensor out, Tensor lse, float scale) -> (Tensor, Tensor, Tensor)",
    )  # fmt: skip

    def gradients(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, out, lse = ctx.saved_tensors  # type: ignore[attr-defined]
        return (*backward_op(grad, *inputs, out, lse, ctx.scale), None, None, None, None, None, None)  # type: ignore[attr-defined]

    op.register_fake(_shape_of_output)
    backward_op.register_fake(_shape_of_gradients)
    op.register_autograd(gradients, setup_context=_keep)
    return op


def forward(
    kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, tokens: Tensor, places: Tensor,
    run_starts: Tensor, host_run_starts: Tensor, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The output `[batch text heads head_dim]`, zero for tokens that see nothing, and log-sum-exp `[heads seeing]`."""
    packed = _rows(query, tokens), _latents(key, seen, query.shape[2]), _latents(value, seen, query.shape[2])
    if any(x.numel() == 0 for x in packed):
        return query.new_zeros(query.shape), query.new_zeros(query.shape[2], tokens.shape[0], dtype=torch.float32)
    out, lse = kernel.forward(*packed, _blocks(key, run_starts, host_run_starts), scale)
    return _spread(out, places, query), lse


def backward(
    kernel: Kernel, grad: Tensor, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, tokens: Tensor,
    places: Tensor, run_starts: Tensor, host_run_starts: Tensor, out: Tensor, lse: Tensor, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of query, key and value, from what `forward` took and gave."""
    packed = _rows(query, tokens), _latents(key, seen, query.shape[2]), _latents(value, seen, query.shape[2])
    if any(x.numel() == 0 for x in packed):
        return query.new_zeros(query.shape), key.new_zeros(key.shape), value.new_zeros(value.shape)
    blocks = _blocks(key, run_starts, host_run_starts)
    grads = kernel.backward(_rows(grad, tokens), *packed, _rows(out, tokens), lse, blocks, scale)
    return _spread(grads[0], places, query), _collect(grads[1], seen, key), _collect(grads[2], seen, value)


def _blocks(key: Tensor, run_starts: Tensor, host_run_starts: Tensor) -> Blocks:
    latents = key.shape[1]
    end = (run_starts.shape[0] - 1) * latents + 1
    key_starts = torch.arange(0, end, latents, dtype=torch.int32, device=run_starts.device)
    return Blocks(run_starts, key_starts, host_run_starts, latents)


def _rows(x: Tensor, tokens: Tensor) -> Tensor:
    """The tokens that see something, sorted by item: [seeing heads head_dim]."""
    return _aligned(x.flatten(0, 1).index_select(0, tokens))


def _latents(x: Tensor, seen: Tensor, num_heads: int) -> Tensor:
    """The latents of the items that are seen, in pool order, and so without a copy if all are: [rows heads head_dim].

    Heads are repeated for grouped queries: xformers has no backward for them, nor has every torch.
    """
    if seen.shape[0] < x.shape[0]:
        x = x.index_select(0, seen)
    groups = num_heads // x.shape[2]
    if groups > 1:
        x = x.repeat_interleave(groups, 2)
    return _aligned(x.flatten(0, 1))


def _aligned(x: Tensor) -> Tensor:
    """Rows that start at multiples of 16 bytes, which the kernels read at once; zeros added to a head add nothing."""
    if x.shape[-1] % 8:
        return F.pad(x, (0, padded_head_dim(x.shape[-1]) - x.shape[-1]))
    odd = any(stride * x.element_size() % 16 for stride in x.stride()[:-1]) or x.data_ptr() % 16
    return x.clone(memory_format=torch.contiguous_format) if odd or x.stride(-1) != 1 else x


def _spread(rows: Tensor, places: Tensor, like: Tensor) -> Tensor:
    """Packed rows back in their places, zeros elsewhere: each token takes its row, by numbers as the plan has them."""
    if rows.shape[0] < places.shape[0]:
        rows = F.pad(rows, (0, 0, 0, 0, 0, 1))  # behind the last one, for the tokens that see nothing
    return rows[..., : like.shape[-1]].index_select(0, places).view(like.shape)


def _collect(rows: Tensor, seen: Tensor, like: Tensor) -> Tensor:
    """Gradients of packed latents as gradients of the pool: heads summed over their group, zeros for unseen items."""
    grad = rows[..., : like.shape[-1]].reshape(seen.shape[0], like.shape[1], like.shape[2], -1, like.shape[3])
    grad = grad.squeeze(3) if grad.shape[3] == 1 else grad.sum(3)
    if seen.shape[0] == like.shape[0]:
        return grad.contiguous()
    return like.new_zeros(like.shape).index_copy_(0, seen.long(), grad)


def _shape_of_output(
    query: Tensor, key: Tensor, value: Tensor, seen: Tensor, tokens: Tensor, places: Tensor, run_starts: Tensor,
    host_run_starts: Tensor, scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return query.new_empty(query.shape), query.new_empty(query.shape[2], tokens.shape[0], dtype=torch.float32)


def _shape_of_gradients(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, seen: Tensor, tokens: Tensor, places: Tensor,
    run_starts: Tensor, host_run_starts: Tensor, out: Tensor, lse: Tensor, scale: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def _keep(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.scale = scale  # type: ignore[attr-defined]
