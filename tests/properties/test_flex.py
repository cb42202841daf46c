"""The flex backend is the plain loops, forward: on the CPU it refuses to be trained through."""

import gc

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.ops.attention import flex
from flamingo_blocks.ops.attention._shared import hide_invalid
from flamingo_blocks.ops.attention.backend import Request
from tests.oracle import naive_attention
from tests.strategies import layout_cases, seeds, single_item_cases, tensor

few = settings(max_examples=max(5, settings.default.max_examples // 3))  # each new shape is traced anew
cases = layout_cases() | single_item_cases()


def inputs_of(case, seed, *, heads=(2, 1), latents=2, masked=False):
    noise = torch.Generator().manual_seed(seed)
    query = tensor(noise, len(case.rows), case.width, heads[0], 3)
    key, value = (tensor(noise, case.num_items, latents, heads[1], 3) for _ in "kv")
    valid = torch.rand(case.num_items, latents, generator=noise) < 0.7 if masked else None
    return query, key, value, valid


def run(layout, query, key, value, valid, scale=0.4):
    return flex.BACKEND.attend(query, hide_invalid(key, valid), hide_invalid(value, valid), layout, valid, scale)


@few
@given(cases, seeds, st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 1)]), st.integers(1, 4), st.booleans())
def test_flex_is_the_loops(case, seed, heads, latents, masked):
    """Ranges, tiles, groups, shared items, masks and empty rows give what the loops give; blind tokens exact zeros."""
    query, key, value, valid = inputs_of(case, seed, heads=heads, latents=latents, masked=masked)
    seen = case.seen_items()
    out = run(case.layout(), query, key, value, valid)
    torch.testing.assert_close(out, naive_attention(query, key, value, seen, valid=valid, scale=0.4), atol=1e-9, rtol=0)
    counts = torch.ones(case.num_items, latents, dtype=torch.bool) if valid is None else valid
    for row, tokens in enumerate(seen):
        for token, items in enumerate(tokens):
            if not any(counts[item].any() for item in items):
                assert (out[row, token] == 0).all()


@few
@given(cases, seeds, st.sampled_from([float("nan"), float("inf")]), st.data())
def test_a_bad_item_reaches_only_who_sees_it(case, seed, bad_value, data):
    """NaN or Inf in an item gives NaN to the tokens that see it and changes no other by a single bit."""
    if case.num_items == 0:
        return
    query, key, value, _ = inputs_of(case, seed)
    layout = case.layout()
    clean = run(layout, query, key, value, None)
    bad = data.draw(st.integers(0, case.num_items - 1))
    key[bad] = value[bad] = bad_value
    spoilt = run(layout, query, key, value, None)
    for row, tokens in enumerate(case.seen_items()):
        for token, items in enumerate(tokens):
            if bad in items:
                assert spoilt[row, token].isnan().all()
            else:
                assert torch.equal(spoilt[row, token], clean[row, token])


def test_a_text_of_several_blocks_is_masked_right():
    """Blocks that are seen in full, in part and not at all: torch's own attention says the same."""
    noise = torch.Generator().manual_seed(0)
    is_media = torch.zeros(2, 400, dtype=torch.bool)
    is_media[0, 50::60] = is_media[1, ::90] = True
    for scope in ("last", "all"):
        layout = MediaLayout.from_tokens(is_media, scope=scope)
        query = tensor(noise, 2, 400, 2, 4)
        key, value = (tensor(noise, layout.num_items, 64, 2, 4) for _ in "kv")
        for valid in (None, torch.rand(layout.num_items, 64, generator=noise) < 0.5):
            mask = layout.mask()[..., None] & (
                torch.ones(1, 64) > 0 if valid is None else valid[layout.item_ids.clamp(min=0)][:, None]
            )
            own = [x[layout.item_ids.clamp(min=0)].flatten(1, 2).transpose(1, 2) for x in (key, value)]
            expected = torch.nn.functional.scaled_dot_product_attention(
                query.transpose(1, 2), *own, attn_mask=mask.flatten(2)[:, None], scale=0.4
            ).transpose(1, 2)
            expected = expected.masked_fill(~layout.sees_any()[..., None, None], 0)
            torch.testing.assert_close(run(layout, query, key, value, valid), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("masked", [False, True])
def test_no_block_that_holds_a_seen_pair_is_skipped(scope, masked):
    """The kernel computes the blocks in which a token sees a latent, and no others; the CPU does not look at blocks."""
    is_media = torch.zeros(2, 400, dtype=torch.bool)
    is_media[0, 50::60] = is_media[1, ::90] = True
    layout = MediaLayout.from_tokens(is_media, scope=scope)
    slots = layout.item_ids.shape[1]
    valid = torch.ones(2, slots * 64, dtype=torch.bool) if masked else None
    sees = layout.mask().repeat_interleave(64, dim=2)
    sees = torch.nn.functional.pad(sees, (0, -slots * 64 % 128, 0, -400 % 128))
    blocks = sees.unflatten(2, (-1, 128)).unflatten(1, (-1, 128)).any(2).any(-1)
    mask = flex._block_mask(layout, 64, valid)
    assert torch.equal(mask.to_dense()[:, 0].bool(), blocks)
    assert (mask.full_kv_num_blocks is None) == masked  # of a full block the kernel would not ask what is masked


def test_the_block_mask_is_made_once_a_layout_and_forgotten_with_it(monkeypatch):
    """The layers of a model share it; other latents, or a mask of them, get their own; it goes with its layout."""
    made = []
    create = flex.create_block_mask

    def counted(mask_mod, B, H, Q_LEN, KV_LEN, device):  # noqa: N803 - what torch 2.10 calls them, and takes
        made.append(1)
        return create(mask_mod, B, H, Q_LEN, KV_LEN, device=device)

    monkeypatch.setattr(flex, "create_block_mask", counted)
    layout = MediaLayout.from_tokens(torch.tensor([[True, False, True]]))
    query = torch.randn(1, 3, 1, 4)
    for latents, expected in ((2, 1), (2, 1), (3, 2)):
        media = torch.randn(2, latents, 1, 4)
        run(layout, query, media, media, None)
        assert len(made) == expected
    for valid in (torch.tensor([[True, False], [True, True]]), torch.tensor([[False, False], [True, True]])):
        media = torch.randn(2, 2, 1, 4)
        run(layout, query, media, media, valid)  # of another mask of latents only what is masked is another
        assert len(made) == 3
    before = len(flex._block_masks)
    del layout
    gc.collect()
    assert len(flex._block_masks) == before - 1


def request(device: str, **other) -> Request:
    asked = {
        "dtype": torch.float32,
        "head_dim": 64,
        "num_heads": 2,
        "num_kv_heads": 2,
        "requires_grad": False,
        "layout": None,
    }
    return Request(device=torch.device(device), **asked | other)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (request("cpu"), None),
        (request("cpu", requires_grad=True), "no backward pass on the CPU"),
        (request("meta"), "not on meta"),
        (request("cuda", dtype=torch.float64), "not float64"),
        (request("cuda", head_dim=8), "16 or wider on CUDA, not 8"),
    ],
)
def test_what_flex_cannot_take_is_told(asked, reason):
    """Each reason names what was asked."""
    told = flex.BACKEND.refuse(asked)
    assert told is None if reason is None else reason in told
