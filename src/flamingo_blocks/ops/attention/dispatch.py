"""Attention from text tokens to the media they see: checks, choice of a backend, and the reasons of those refused."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.errors import BackendRefusedError, ShapeError
from flamingo_blocks.ops._layout_checks import check_pool
from flamingo_blocks.ops._tensor_checks import check_floats
from flamingo_blocks.ops.attention import flex, one_token, reference, runs, sdpa, varlen, xformers_backend
from flamingo_blocks.ops.attention._shared import hide_invalid
from flamingo_blocks.ops.attention.auto_order import ELSEWHERE, PREFERENCES
from flamingo_blocks.ops.attention.backend import Backend, Request
from flamingo_blocks.ops.media_layout import MediaLayout, check_layout

# A new backend is one new file and its line here.
BACKENDS: dict[str, Backend] = {
    module.BACKEND.name: module.BACKEND for module in (reference, sdpa, runs, one_token, xformers_backend, varlen, flex)
}


def media_attention(
    query: Float[Tensor, "batch text heads head_dim"],
    key: Float[Tensor, "items latents kv_heads head_dim"],
    value: Float[Tensor, "items latents kv_heads head_dim"],
    layout: MediaLayout,
    *,
    valid: Bool[Tensor, "items latents"] | None = None,
    scale: float | None = None,
    backend: str = "auto",
) -> Float[Tensor, "batch text heads head_dim"]:
    """Let every text token attend to the media items that it sees.

    The core of gated cross-attention, for those who have projections of their own. A token attends to all latents of
    the items that the layout gives it; a token that sees no item gets exact zeros and has zero gradient. What a token
    does not see cannot reach it, NaN and Inf included. What a token makes of NaN or Inf that it does see is not finite;
    which of the two stands there, and in which of its numbers, differs by backend.

    Args:
        query: Projected text.
        key: Projected media, the whole pool; `kv_heads` must divide `heads` (grouped-query attention).
        value: As `key`.
        layout: Which items each token sees.
        valid: Latents that count; all by default. A token whose items have none gets zeros.
        scale: Factor on the scores; `head_dim ** -0.5` by default.
        backend: A name of `available_backends`, or `"auto"`. All give the same result.

    Returns:
        One update for each token and head, in the dtype of `query`, under autocast too.

    Raises:
        TypeError: If `layout` is no `MediaLayout`, or query, key or value is no tensor.
        ValueError: If query, key or value holds no floats, shapes, dtypes or the pool's size do not fit the layout, or
            the backend is unknown.
        BackendRefusedError: If the asked backend cannot run this call; the message lists all with their reasons.

    Example:
        >>> layout = MediaLayout.from_tokens(torch.tensor([[False, True, False]]))
        >>> query, media = torch.randn(1, 3, 2, 4), torch.randn(1, 5, 2, 4)
        >>> media_attention(query, media, media, layout)[0, 0].abs().max()  # before the first image
        tensor(0.)

    Source:
        Flamingo (arXiv 2204.14198), section 2.3. There all media are attended to and masked; here only the needed pairs
        are computed, with the same result.
    """
    check_layout(layout)
    _check(query, key, value, layout, valid)
    check_pool(layout, key.shape[0])
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    requires_grad = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    request = Request(
        query.device, query.dtype, query.shape[-1], query.shape[2], key.shape[2], requires_grad, layout,
        has_valid=valid is not None,
    )  # fmt: skip
    chosen = _choose(backend, request)
    out = chosen.attend(query, hide_invalid(key, valid), hide_invalid(value, valid), layout, valid, scale)
    return out.to(query.dtype)  # under autocast torch's own attention gives autocast's


def available_backends(
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    head_dim: int = 64,
    num_heads: int = 8,
    num_kv_heads: int | None = None,
    requires_grad: bool = True,
    layout: MediaLayout | None = None,
    has_valid: bool = False,
) -> dict[str, str]:
    """Say which attention backends can run, and why the others cannot.

    Args:
        device: Where the tensors are.
        dtype: Their dtype.
        head_dim: Width of a head.
        num_heads: Heads of the query.
        num_kv_heads: Heads of key and value; as many as the query's by default.
        requires_grad: Whether a backward pass follows.
        layout: The layout to run; without it only what holds for any layout is told.
        has_valid: Whether some latents do not count: a mask `valid` comes with the call.

    Returns:
        For each backend `"ok"` or the reason why it is refused.

    Raises:
        TypeError: If `dtype` is no `torch.dtype`, or `layout` no `MediaLayout`.
        ValueError: If `dtype` is not of floats, a size is less than 1, or `num_kv_heads` does not divide `num_heads`.

    Example:
        >>> available_backends("cpu", torch.float32)["runs"]
        'ok'
    """
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    _check_asked(dtype, head_dim, num_heads, num_kv_heads)
    if layout is not None:
        check_layout(layout)
    device = torch.device(device)
    if not _is_here(device.type):
        return dict.fromkeys(BACKENDS, f"torch sees no {device.type.upper()} device here")
    request = Request(device, dtype, head_dim, num_heads, num_kv_heads, requires_grad, layout, has_valid=has_valid)
    return {name: backend.refuse(request) or "ok" for name, backend in BACKENDS.items()}


def _check_asked(dtype: object, head_dim: int, num_heads: int, num_kv_heads: int) -> None:
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"dtype is {dtype!r}, wanted a dtype of torch, such as torch.float32")
    if not dtype.is_floating_point:
        raise ValueError(f"dtype is {dtype}, wanted one of floats, such as torch.float32")
    if head_dim < 1 or num_heads < 1:
        raise ValueError(f"head_dim and num_heads are {head_dim} and {num_heads}, wanted 1 or more of each")
    if num_kv_heads < 1 or num_heads % num_kv_heads:
        raise ShapeError(f"num_kv_heads is {num_kv_heads}, wanted a divisor of num_heads {num_heads}")


def _is_here(kind: str) -> bool:
    """Whether torch sees a device of a kind; kinds that it cannot be asked about are taken to be here."""
    if kind == "mps":
        return torch.backends.mps.is_available()
    ask = getattr(getattr(torch, kind, None), "is_available", None)
    return bool(ask()) if callable(ask) else True


def _choose(backend: str, request: Request) -> Backend:
    if backend == "auto":
        preference = PREFERENCES.get(request.device.type, ELSEWHERE)
        return next(BACKENDS[name] for name in preference.order if BACKENDS[name].refuse(request) is None)
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, wanted 'auto' or one of {', '.join(map(repr, BACKENDS))}")
    if reason := BACKENDS[backend].refuse(request):
        others = "; ".join(f"{name}: {other.refuse(request) or 'ok'}" for name, other in BACKENDS.items())
        raise BackendRefusedError(f"backend {backend!r} cannot run this call: {reason}. All backends: {others}")
    return BACKENDS[backend]


def _check(query: Tensor, key: Tensor, value: Tensor, layout: MediaLayout, valid: Tensor | None) -> None:
    check_floats(query, "query", "[batch text heads head_dim]")
    check_floats(key, "key", "[items latents kv_heads head_dim]")
    check_floats(value, "value", "[items latents kv_heads head_dim]")
    if query.ndim != 4 or key.ndim != 4 or key.shape != value.shape or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"query, key and value have shapes {tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}; "
            "wanted [batch text heads head_dim] and twice [items latents kv_heads head_dim] with one head_dim"
        )
    if key.shape[2] == 0 or query.shape[2] % key.shape[2]:
        raise ShapeError(f"query has {query.shape[2]} heads and key {key.shape[2]}; key's must divide query's")
    if not query.dtype == key.dtype == value.dtype:
        raise ShapeError(f"query, key and value are {query.dtype}, {key.dtype} and {value.dtype}; wanted one dtype")
    if query.shape[:2] != layout.last.shape:
        raise ShapeError(
            f"query has batch and text {tuple(query.shape[:2])}, the layout {tuple(layout.last.shape)}; "
            "take the columns in use with layout.slice, repeat rows for beams with layout.repeat_rows, and turn text "
            "that is [text batch dim] round before a block"
        )
    if layout.last.device != query.device and "meta" not in (layout.last.device.type, query.device.type):
        raise ValueError(
            f"the layout is on {layout.last.device}, query on {query.device}; move it once with layout.to(query.device)"
        )
    if valid is not None and (valid.dtype != torch.bool or valid.shape != key.shape[:2]):
        raise ShapeError(
            f"valid is {valid.dtype} of shape {tuple(valid.shape)}, wanted bool of shape {tuple(key.shape[:2])}"
        )
