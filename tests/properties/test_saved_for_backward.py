"""What training keeps: nothing of the shape of scores, however the attention is asked for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks.nn import FeedForward, GatedCrossAttentionBlock, PerceiverResampler
from flamingo_blocks.ops import MediaLayout, available_backends, media_attention
from tests.memory import saved_bytes, saved_tensors
from tests.strategies import heavy

LATENTS, HEAD_DIM = 37, 2  # scores are far wider than the heads, and no other axis is a multiple of 37
runs = st.integers(24, 48)  # tokens under a tag
heads = st.sampled_from([(4, 4), (4, 2), (3, 1)])
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16])


def layout_of(rows: int, media: int, run: int, *, scope: str = "last") -> MediaLayout:
    """Rows of as many tags, each with a run of text."""
    is_media = torch.zeros(rows, media * run, dtype=torch.bool)
    is_media[:, ::run] = True
    return MediaLayout.from_tokens(is_media, scope=scope).prepare("cpu")


def attention_of(layout: MediaLayout, num_heads: tuple[int, int], dtype: torch.dtype, *, masked: bool, backend: str):
    """A call of `media_attention` that takes gradients, and the bytes of its key and value."""
    rows, text = layout.last.shape
    query = torch.randn(rows, text, num_heads[0], HEAD_DIM, dtype=dtype, requires_grad=True)
    key, value = (
        torch.randn(layout.num_items, LATENTS, num_heads[1], HEAD_DIM, dtype=dtype, requires_grad=True) for _ in "kv"
    )
    valid = torch.rand(layout.num_items, LATENTS) < 0.8 if masked else None
    return lambda: media_attention(query, key, value, layout, valid=valid, backend=backend), key.nbytes + value.nbytes


def pairs(layout: MediaLayout, *, dense: bool) -> int:
    """Pairs of a token and a latent: of the one item that it sees, or of all that its row holds."""
    return layout.last.numel() * LATENTS * (layout.item_ids.shape[1] if dense else 1)


def largest(kept: list[Tensor]) -> int:
    return max(x.untyped_storage().nbytes() // x.element_size() for x in kept)


@pytest.mark.parametrize("backend", ["auto", "runs", "sdpa"])
@pytest.mark.parametrize("scope", ["last", "all"])
@heavy()
@given(st.integers(1, 2), st.integers(1, 3), runs, heads, dtypes, st.booleans())
def test_no_scores_are_kept(backend, scope, rows, media, run, num_heads, dtype, masked):
    """No tensor of one number for each head, token and key is kept, with grouped heads and masks neither."""
    layout = layout_of(rows, media, run, scope=scope)
    if backend != "auto" and available_backends("cpu", dtype, layout=layout)[backend] != "ok":
        return
    call, _ = attention_of(layout, num_heads, dtype, masked=masked, backend=backend)
    dense = scope == "all" or backend == "sdpa"
    assert largest(saved_tensors(call)) < num_heads[0] * pairs(layout, dense=dense)


@heavy()
@given(st.integers(1, 2), st.integers(1, 3), runs, heads, dtypes, st.booleans())
def test_no_mask_is_kept_where_a_token_sees_one_item(rows, media, run, num_heads, dtype, masked):
    """Not even one number for each token and latent is kept."""
    layout = layout_of(rows, media, run)
    call, _ = attention_of(layout, num_heads, dtype, masked=masked, backend="auto")
    assert largest(saved_tensors(call)) < pairs(layout, dense=False)


@heavy()
@given(st.integers(1, 2), st.integers(1, 4), runs, heads, st.booleans())
def test_what_is_kept_is_linear_in_text(rows, media, run, num_heads, masked):
    """Twice the text under twice the images keeps twice the bytes at most."""
    once, twice = (
        saved_bytes(attention_of(layout, num_heads, torch.float32, masked=masked, backend="auto")[0])
        for layout in (layout_of(rows, media, run), layout_of(rows, 2 * media, run))
    )
    assert twice <= 2 * once


@heavy()
@given(st.integers(1, 2), st.integers(1, 4), runs, heads, st.booleans())
def test_more_items_add_no_more_than_themselves(rows, media, run, num_heads, masked):
    """At a fixed length of text, more items add their own keys and values a few times, nothing by the token."""
    layouts = layout_of(rows, media, 4 * run), layout_of(rows, 4 * media, run)
    calls = [attention_of(layout, num_heads, torch.float32, masked=masked, backend="auto") for layout in layouts]
    few, many = (saved_bytes(call) for call, _ in calls)
    (_, few_items), (_, many_items) = calls
    assert many - few <= 3 * (many_items - few_items)


@heavy()
@given(st.integers(1, 2), st.integers(1, 3), runs, heads, st.booleans(), st.sampled_from(["last", "all"]))
def test_a_block_keeps_no_scores(rows, media, run, num_heads, masked, scope):
    """Projections and a feed-forward layer around the attention change nothing of that."""
    layout = layout_of(rows, media, run, scope=scope)
    block = GatedCrossAttentionBlock(
        8, vision_dim=6, num_heads=num_heads[0], num_kv_heads=num_heads[1], head_dim=HEAD_DIM, qk_norm="rms_norm"
    )
    text = torch.randn(*layout.last.shape, 8, requires_grad=True)
    pool = torch.randn(layout.num_items, LATENTS, 6, requires_grad=True)
    valid = torch.rand(layout.num_items, LATENTS) < 0.8 if masked else None
    kept = saved_tensors(lambda: block(text, pool, layout, valid=valid), besides=[block])
    assert largest(kept) < num_heads[0] * pairs(layout, dense=scope == "all")


def resampler_of(**options) -> PerceiverResampler:
    return PerceiverResampler(**{"vision_dim": 32, "dim": 32, "num_heads": 1, "head_dim": 2, "max_frames": 2} | options)


@heavy()
@given(st.integers(1, 2), st.integers(64, 128), st.booleans(), st.sampled_from([None, "layer_norm"]))
def test_a_resampler_keeps_no_scores(items, patches, masked, qk_norm):
    """No tensor of one number for each head, latent and patch is kept."""
    resampler = resampler_of(num_latents=LATENTS, depth=2, dim=8, vision_dim=8, num_heads=4, qk_norm=qk_norm)
    vision = torch.randn(items, 1, patches, 8)
    valid = torch.rand(items, 1, patches) < 0.8 if masked else None
    kept = saved_tensors(lambda: resampler(vision, valid), besides=[resampler])
    assert largest(kept) < 4 * items * LATENTS * patches


@heavy()
@given(
    st.integers(1, 2), st.integers(64, 128), st.integers(1, 3), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(["layer_norm", "rms_norm"]),
)  # fmt: skip
def test_a_layer_of_the_resampler_keeps_no_copy_of_the_patches(items, patches, depth, masked, frozen, recompute, norm):
    """One layer more keeps less than half of what the patches are: they are normalised once for all layers."""
    vision = torch.randn(items, 1, patches, 32, requires_grad=not frozen)
    valid = torch.rand(items, 1, patches) < 0.8 if masked else None
    kept = []
    for layers in (depth, depth + 1):
        resampler = resampler_of(num_latents=1, depth=layers, norm=norm, activation_checkpointing=recompute)
        kept.append(saved_bytes(lambda module=resampler: module(vision, valid), besides=[resampler]))
    assert kept[1] - kept[0] < vision.nbytes / 2


@heavy()
@given(st.integers(1, 64), st.sampled_from(["squared_relu", "gelu", "relu", "silu", "swiglu"]))
def test_a_feed_forward_layer_keeps_its_hidden_tokens_once(tokens, activation):
    """What the activation gave is made again: of the wide tensors only the activation's inputs are kept."""
    module = FeedForward(8, ff_mult=16, activation=activation)
    x = torch.randn(tokens, 8, requires_grad=True)
    wide = [y for y in saved_tensors(lambda: module(x), besides=[module]) if y.shape[-1] == 128]
    assert len(wide) == (2 if activation == "swiglu" else 1)


@pytest.mark.parametrize("backend", ["runs", "sdpa"])
def test_what_stands_in_order_is_not_copied(backend):
    """Rows of as many items each, pool and tokens in the order of the items: no copy is kept of them, nor a second one
    of the output, where every token sees an item.
    """
    layout = layout_of(2, 3, 24)
    query = torch.randn(2, 72, 2, 64, requires_grad=True)
    media = [torch.randn(6, LATENTS, 2, 64, requires_grad=True) for _ in "kv"]

    def attend():
        return media_attention(query, *media, layout, backend=backend).square()  # keeps what it is given

    mask = 0 if backend == "runs" else 2 * 72 * 3 * LATENTS * 4
    statistics = 2 * 72 * 2 * 4
    kept = saved_bytes(attend, besides=[query, *media])
    assert kept <= query.nbytes + statistics + 1.3 * mask  # the output
