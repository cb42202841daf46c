"""Steps that several backends share."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from flamingo_blocks.ops._host_reads import may_read, on_host
from flamingo_blocks.ops.attention_plan import AttentionPlan, make_plan
from flamingo_blocks.ops.media_layout import MediaLayout

_plans: "WeakKeyDictionary[MediaLayout, AttentionPlan]" = WeakKeyDictionary()


def plan_of(layout: MediaLayout) -> AttentionPlan:
    """The layout's plan; one that was not prepared is planned once and remembered while it lives."""
    if layout.plan is not None:
        return layout.plan
    if layout not in _plans:
        with torch.inference_mode(mode=False):  # a plan made in evaluation serves training too
            _plans[layout] = make_plan(layout.item_ids, layout.first, layout.last)
    return _plans[layout]


def refuse_ranges(layout: MediaLayout | None) -> str | None:
    """The reason why a backend for one item a token cannot run this layout, or `None`."""
    if layout is None or layout.single_item or (layout.plan is not None and layout.plan.single_item):
        return None
    if layout.plan is None and (torch.compiler.is_compiling() or layout.last.device.type != "cpu"):
        return "the layout does not tell how many items a token sees; call layout.prepare() first"
    single = plan_of(layout).single_item  # on the CPU, where reading values is free
    return None if single else 'some token sees several items (scope "all", tiles or groups)'


def refuse_unplanned(layout: MediaLayout | None) -> str | None:
    """As `refuse_ranges`, and the reason why a backend that needs the plan cannot have one here."""
    if layout is not None and layout.plan is None and torch.compiler.is_compiling():
        return "planning reads values, which compiled code cannot; call layout.prepare() before"
    return refuse_ranges(layout)


@dataclass(frozen=True, eq=False)
class ScoreBias:
    """A mask as torch's fused kernels take it, each of which treats rows that are masked throughout in its own way.

    Args:
        scores: Added to the scores: 0 where a row may attend, minus infinity elsewhere; 0 throughout in blind rows.
        blind: Rows that may attend to nothing; what they give is wiped. `None` where it is known that no row is blind:
            wiping is one more copy of what attention gives.
    """

    scores: Float[Tensor, "group 1 _rows columns"]
    blind: Bool[Tensor, "group _rows 1"] | None

    @classmethod
    def of(cls, mask: Bool[Tensor, "group _rows columns"], dtype: torch.dtype) -> "ScoreBias":
        """The bias of a mask in which True may attend."""
        blind = ~mask.any(-1, keepdim=True)
        scores = torch.zeros_like(mask, dtype=dtype).masked_fill(~(mask | blind), float("-inf"))
        return cls(scores[:, None], None if may_read(blind) and not on_host(blind.any()) else blind)


def masked_attention(
    query: Float[Tensor, "group rows heads head_dim"],
    key: Float[Tensor, "group columns kv_heads head_dim"],
    value: Float[Tensor, "group columns kv_heads head_dim"],
    mask: Bool[Tensor, "group _rows columns"] | None,
    scale: float,
) -> Float[Tensor, "group rows heads head_dim"]:
    """Scaled dot-product attention where a row that may attend to nothing gives exact zeros and zero gradient."""
    bias = None if mask is None else ScoreBias.of(mask, query.dtype)
    return biased_attention(query, key, value, bias, scale)


def biased_attention(
    query: Float[Tensor, "group rows heads head_dim"],
    key: Float[Tensor, "group columns kv_heads head_dim"],
    value: Float[Tensor, "group columns kv_heads head_dim"],
    bias: ScoreBias | None,
    scale: float,
) -> Float[Tensor, "group rows heads head_dim"]:
    """As `masked_attention`, with a bias that was made before."""
    groups = query.shape[2] // key.shape[2]
    if groups > 1 and bias is not None and query.device.type == "cuda":
        # With grouped heads and a mask torch has no fused kernel there, and would keep all scores.
        key, value = (x.repeat_interleave(groups, 2) for x in (key, value))
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    gqa: dict[str, Any] = {}
    if query.shape[1] != key.shape[1]:  # a branch: in compiled code the comparison alone is a symbol
        gqa["enable_gqa"] = True
    mask = None if bias is None else bias.scores
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, **gqa)
    if bias is not None and bias.blind is not None:
        out = out.masked_fill(bias.blind[:, None], 0)
    return out.transpose(1, 2)


def hide_invalid(x: Float[Tensor, "items latents *rest"], valid: Bool[Tensor, "items latents"] | None) -> Tensor:
    """Zero the latents that do not count, so that what they hold (NaN included) reaches nothing."""
    if valid is None:
        return x
    return x.masked_fill(~valid.view(*valid.shape, *[1] * (x.ndim - 2)), 0)


def hide_bad_items(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Bool[Tensor, " items"]]:
    """Zero the items that hold NaN or Inf and tell which they are.

    A masked score of NaN is still NaN, and so is its gradient; `mark_bad` tells the tokens that see such an item.
    """
    bad = bad_items(key, value)
    return key.masked_fill(bad[:, None, None, None], 0), value.masked_fill(bad[:, None, None, None], 0), bad


def bad_items(key: Tensor, value: Tensor) -> Bool[Tensor, " items"]:
    """Which items hold NaN or Inf: either is in the largest or the smallest number, so no copy is made to look."""
    if 0 in key.shape[1:]:
        return torch.zeros(key.shape[0], dtype=torch.bool, device=key.device)
    ends = torch.stack([end for x in (key, value) for end in x.detach().flatten(1).aminmax(dim=1)])
    return ~torch.isfinite(ends).all(0)


def mark_bad(
    out: Float[Tensor, "batch text heads head_dim"], sees_bad: Bool[Tensor, "batch text"]
) -> Float[Tensor, "batch text heads head_dim"]:
    """Give NaN to the tokens that see an item with NaN or Inf, and let no gradient of theirs into the other items."""
    return out.masked_fill(sees_bad[..., None, None], float("nan"))


def zeros_in_graph(query: Tensor, *others: Tensor) -> Tensor:
    """Zeros like `query` that still give every input a gradient: the sum of an empty slice is an exact 0."""
    out = torch.zeros_like(query)
    for x in (query, *others):
        out = out + x.flatten()[:0].sum()
    return out
