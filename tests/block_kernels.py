"""Plain torch in the place of CUDA's block-diagonal kernels: their arguments, checks and results, on the CPU.

What stands around a kernel can so be tested where no kernel runs. The backward pass is computed from the output and the
log-sum-exp that it is given, as the kernels do, and from nothing else.
"""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from flamingo_blocks.ops.attention import varlen, xformers_backend
from flamingo_blocks.ops.attention.backend import Attend

KERNELS = ["varlen", "xformers-flash", "xformers-cutlass"]


@contextmanager
def kernels_on_cpu(name: str) -> Iterator[Attend]:
    """The whole `attend` of a backend, with its kernel replaced."""
    backend, _, family = name.partition("-")
    if backend == "varlen":
        with torch.library._scoped_library("aten", "IMPL") as library:
            library.impl("_flash_attention_forward", flash_forward, "CPU")
            library.impl("_flash_attention_backward", flash_backward, "CPU")
            yield varlen.attend
        return
    fmha = fmha_or_skip()
    pair = (getattr(fmha, family).FwOp, getattr(fmha, family).BwOp)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xformers_backend, "_operators_for", lambda _: pair)
        patch.setattr(fmha, "memory_efficient_attention_forward_requires_grad", fmha_forward)
        patch.setattr(fmha, "memory_efficient_attention_backward", fmha_backward)
        yield xformers_backend.attend


def fmha_or_skip():
    if importlib.util.find_spec("xformers") is None:
        pytest.skip("xformers is not installed (pip install --no-deps xformers)")
    import xformers.ops.fmha

    return xformers.ops.fmha


def flash_forward(
    query, key, value, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, return_debug_mask, *, scale, **rest
):
    """The schema of `aten::_flash_attention_forward`."""
    assert not (dropout_p or is_causal or return_debug_mask or any(x is not None for x in rest.values()))
    out, lse = torch.full_like(query, float("nan")), torch.full((query.shape[1], query.shape[0]), float("nan"))
    assert scale > 0  # the kernels subtract the largest score before they scale
    for rows, columns in blocks_of(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k):
        scores = torch.einsum("qhd, khd -> hqk", query[rows].float(), key[columns].float()) * scale
        lse[:, rows] = scores.logsumexp(-1)
        out[rows] = torch.einsum("hqk, khd -> qhd", scores.softmax(-1), value[columns].float()).to(out.dtype)
    unused = torch.empty(0)
    return out, lse, unused, unused, unused


def flash_backward(
    grad, query, key, value, out, lse, cum_seq_q, cum_seq_k, max_q, max_k, dropout_p, is_causal, rng_state, unused,
    *, scale, **rest,
):  # fmt: skip
    """The schema of `aten::_flash_attention_backward`."""
    assert not (dropout_p or is_causal or any(x is not None for x in rest.values()))
    assert grad.shape == out.shape == query.shape
    grads = [torch.full_like(x, float("nan"), memory_format=torch.contiguous_format) for x in (query, key, value)]
    for rows, columns in blocks_of(query, key, value, cum_seq_q, cum_seq_k, max_q, max_k):
        q, k, v, d_out = (x.float() for x in (query[rows], key[columns], value[columns], grad[rows]))
        weights = (torch.einsum("qhd, khd -> hqk", q, k) * scale - lse[:, rows, None]).exp()
        d_weights = torch.einsum("qhd, khd -> hqk", d_out, v) - (d_out * out[rows]).sum(-1).T[..., None]
        d_scores = weights * d_weights * scale
        grads[0][rows] = torch.einsum("hqk, khd -> qhd", d_scores, k).to(query.dtype)
        grads[1][columns] = torch.einsum("hqk, qhd -> khd", d_scores, q).to(query.dtype)
        grads[2][columns] = torch.einsum("hqk, qhd -> khd", weights, d_out).to(query.dtype)
    return tuple(grads)


def blocks_of(query, key, value, query_starts, key_starts, longest_query, longest_key) -> list[tuple[slice, slice]]:
    """The rows and columns of each block, after the checks that the kernels make."""
    for rows in (query, key, value):
        assert rows.ndim == 3
        assert rows.stride(-1) == 1
        assert rows.shape[-1] % 8 == 0
        assert rows.data_ptr() % 16 == 0
        assert all(stride * rows.element_size() % 16 == 0 for stride in rows.stride()[:-1])
        assert rows.shape[1:] == query.shape[1:]
    for starts, rows, longest in ((query_starts, query, longest_query), (key_starts, key, longest_key)):
        assert starts.dtype == torch.int32
        assert starts.is_contiguous()
        assert starts[0] == 0
        assert starts[-1] == rows.shape[0]
        assert longest == starts.diff().max()
        assert starts.diff().min() > 0
    starts = query_starts.tolist(), key_starts.tolist()
    queries, keys = ([slice(*ends) for ends in pairwise(numbers)] for numbers in starts)
    return list(zip(queries, keys, strict=True))


def fmha_forward(query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None, output_dtype=None):
    """The arguments of `memory_efficient_attention_forward_requires_grad`; both of its ways to leave log-sum-exp."""
    assert p == 0.0
    assert output_dtype is None
    assert query.shape[0] == key.shape[0] == value.shape[0] == 1
    starts = arguments_of(attn_bias)
    out, lse, *_ = flash_forward(query[0], key[0], value[0], *starts, 0.0, False, False, scale=scale)
    return out[None], lse[None] if op.VARLEN_LSE_PACKED else padded(lse, *starts[:1], starts[2])


def fmha_backward(grad, output, lse, query, key, value, attn_bias=None, p=0.0, scale=None, *, op=None):
    """The arguments of `memory_efficient_attention_backward`."""
    assert p == 0.0
    starts = arguments_of(attn_bias)
    if op.VARLEN_LSE_PACKED:
        assert lse.shape == (1, query.shape[2], query.shape[1])
        lse = lse[0]
    else:
        padded_lse = lse
        lengths = starts[0].diff().tolist()
        lse = torch.cat([block[:, :length] for block, length in zip(padded_lse, lengths, strict=True)], 1)
        torch.testing.assert_close(padded(lse, starts[0], starts[2]), padded_lse, rtol=0, atol=0, equal_nan=True)
    inputs = (x[0] for x in (grad, query, key, value, output))
    unused = torch.empty(0)
    grads = flash_backward(*inputs, lse, *starts, 0.0, False, unused, unused, scale=scale)
    return tuple(x[None] for x in grads)


def arguments_of(mask) -> tuple[Tensor, Tensor, int, int]:
    """What xformers' operators read from a `BlockDiagonalMask`."""
    q, k = mask.q_seqinfo, mask.k_seqinfo
    return q.seqstart, k.seqstart, q.max_seqlen, k.max_seqlen


def padded(lse: Tensor, starts: Tensor, longest: int) -> Tensor:
    """Log-sum-exp [blocks heads rows] as CUTLASS lays it out: rows in 32s, infinity where there is none."""
    out = torch.full((len(starts) - 1, lse.shape[0], -(-longest // 32) * 32), float("inf"))
    for block, (start, stop) in enumerate(pairwise(starts.tolist())):
        out[block, :, : stop - start] = lse[:, start:stop]
    return out
