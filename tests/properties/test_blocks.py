"""Laws 1, 2, 3, 5, 11 and 14 for the gated block, which is also held to plain loops in every option."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from flamingo_blocks.nn import GatedCrossAttention
from flamingo_blocks.ops import MediaLayout
from tests.oracle import Row, naive_block, naive_feed_forward
from tests.strategies import (
    LayoutCase,
    block_options,
    heavy,
    layout_cases,
    make_block,
    seeds,
    tensor,
)

SMALL = {"dim": 8, "vision_dim": 6, "num_heads": 2}
BAD = st.sampled_from([float("nan"), float("inf"), float("-inf")])
LATENTS = 2


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, atol=1e-9, rtol=1e-9)


def inputs_of(case: LayoutCase, seed: int, *, options=SMALL, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Text, media and a cotangent for the output."""
    noise = torch.Generator().manual_seed(seed + 1)
    size = (len(case.rows), case.width, options["dim"])
    media = tensor(noise, case.num_items, LATENTS, options["vision_dim"], dtype=dtype)
    return tensor(noise, *size, dtype=dtype), media, tensor(noise, *size, dtype=dtype)


def columns(case: LayoutCase, wanted) -> Tensor:
    """Bool [batch text]: True where the list of items that a token sees is `wanted`."""
    flags = [[wanted(items) for items in row] for row in case.seen_items()]
    return torch.tensor(flags, dtype=torch.bool).reshape(len(case.rows), case.width)


def gradients(out: Tensor, cotangent: Tensor, module: nn.Module, *inputs: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(out, [*inputs, *module.parameters()], cotangent, allow_unused=True))


@heavy()
@given(layout_cases(), block_options(), seeds, st.booleans())
def test_block_is_the_loops_in_every_option(case, options, seed, masked):
    """Each norm, activation, gate, head grouping and switch computes what its formula says."""
    block = make_block(options, seed)
    text, media, _ = inputs_of(case, seed, options=options)
    valid = torch.rand(media.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.7 if masked else None
    expected = naive_block(
        block.state_dict(),
        text,
        media,
        case.seen_items(),
        head_dim=options["head_dim"] or options["dim"] // options["num_heads"],
        activation=options["activation"],
        dense_without_media=options["dense_without_media"],
        valid=valid,
    )
    close(block(text, media, case.layout(), valid=valid), expected)


DTYPES = {
    "all in float32": (torch.float32, torch.float32, torch.float32),
    "text in bfloat16": (torch.bfloat16, torch.float32, torch.float32),
    "text and weights in bfloat16, gates in float32": (torch.bfloat16, torch.bfloat16, torch.float32),
    "all in bfloat16": (torch.bfloat16, torch.bfloat16, torch.bfloat16),
    "all in float64": (torch.float64, torch.float64, torch.float64),
}


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@heavy()
@given(layout_cases(), block_options(), seeds)
def test_closed_gates_are_the_identity(dtypes, case, options, seed):
    """A new block gives back the text bit for bit, in the dtype of the text, whatever its own weights are in."""
    text_dtype, weight_dtype, gate_dtype = dtypes
    block = make_block(options, seed, dtype=weight_dtype, closed=True)
    for gate in (block.attention_gate, block.feed_forward_gate):
        gate.to(gate_dtype)
    text, media, _ = inputs_of(case, seed, options=options, dtype=text_dtype)
    out = block(text, media, case.layout())
    assert out.dtype == text_dtype
    assert torch.equal(out, text)


@heavy()
@given(layout_cases(), block_options(), seeds)
def test_first_step_moves_gates_only(case, options, seed):
    """Behind closed gates every weight has a gradient of exactly zero but the gates themselves."""
    block = make_block(options, seed, closed=True)
    text, media, cotangent = inputs_of(case, seed, options=options)
    block(text, media, case.layout()).backward(cotangent)
    for name, weight in block.named_parameters():
        assert weight.grad is not None
        if "gate.gate" not in name:
            assert not weight.grad.any()
    if columns(case, bool).any():
        assert block.attention_gate.gate.grad.any()
    if text.numel() and options["dense_without_media"]:
        assert block.feed_forward_gate.gate.grad.any()


@heavy()
@given(layout_cases(), seeds)
def test_tokens_that_see_nothing_get_no_attention_update(case, seed):
    """Without media a token's attention update is exactly zero, and no gradient flows through it to the text."""
    attention = make_block(SMALL, seed).attention
    assert isinstance(attention, GatedCrossAttention)
    text, media, cotangent = inputs_of(case, seed)
    text.requires_grad_()
    out = attention(text, media, case.layout())
    blind = columns(case, lambda items: not items)
    assert (out[blind] == 0).all()
    (text_grad,) = torch.autograd.grad(out, text, cotangent)
    assert (text_grad[blind] == 0).all()


@heavy()
@given(layout_cases(), block_options(), seeds)
def test_tokens_without_media_pass_through_or_get_the_dense_update_alone(case, options, seed):
    """With `dense_without_media=False` such a token comes out bit for bit; else only the feed-forward layer adds."""
    block = make_block(options, seed)
    text, media, _ = inputs_of(case, seed, options=options)
    out = block(text, media, case.layout())
    blind = columns(case, lambda items: not items)
    if not options["dense_without_media"]:
        assert torch.equal(out[blind], text[blind])
        return
    dense = naive_feed_forward(text, block.state_dict(), options["activation"])
    close(out[blind], (text + block.feed_forward_gate.value() * dense)[blind])


@heavy()
@given(layout_cases(), seeds, BAD, st.data())
def test_an_item_that_a_token_does_not_see_cannot_reach_it(case, seed, bad_value, data):
    """NaN and Inf change no token that does not see them, and no gradient of such tokens, by a single bit."""
    if case.num_items == 0:
        return
    bad = data.draw(st.sets(st.integers(0, case.num_items - 1), min_size=1))
    good = [item for item in range(case.num_items) if item not in bad]
    clean = columns(case, lambda items: not bad & set(items))
    block = make_block(SMALL, seed)
    text, media, cotangent = inputs_of(case, seed)
    cotangent[~clean] = 0
    results = []
    for spoilt in (False, True):
        leaves = [text.clone().requires_grad_(), media.clone().requires_grad_()]
        if spoilt:
            leaves[1].data[list(bad)] = bad_value
        out = block(*leaves, case.layout())
        results.append([out.detach(), *gradients(out, cotangent, block, *leaves)])
    before, after = results
    assert torch.equal(after[0][clean], before[0][clean])
    assert torch.equal(after[1][clean], before[1][clean])
    assert torch.equal(after[2][good], before[2][good])
    assert after[0][~clean].isnan().all()
    if clean.all():
        assert all(grad.isfinite().all() for grad in after[1:])


@heavy()
@given(layout_cases(), seeds)
def test_influence_is_exactly_visibility(case, seed):
    """With open gates, d out[t] / d item[j] is non-zero exactly where some slot that holds j is visible to t."""
    block = make_block(SMALL, seed)
    text, media, cotangent = inputs_of(case, seed)
    media.requires_grad_()
    out = block(text, media, case.layout())
    for row, tokens in enumerate(case.seen_items()):
        for token, items in enumerate(tokens):
            target = (out[row, token] * cotangent[row, token]).sum()
            (grad,) = torch.autograd.grad(target, media, retain_graph=True)
            assert {item for item in range(case.num_items) if grad[item].any()} == set(items)


def alone(case: LayoutCase) -> list[tuple[int, list[int], LayoutCase]]:
    """Each document of each row by itself: its row, its columns, and a case without anything around it."""
    parts = []
    for row, tokens in enumerate(case.rows):
        real = [column for column, token in enumerate(tokens) if token.kind != "pad"]
        for number in sorted({tokens[column].document for column in real}):
            places = [column for column in real if tokens[column].document == number]
            part: Row = tuple(replace(tokens[column], document=0) for column in places)
            before = sum(tokens[column].items for column in real if tokens[column].document < number)
            ids = case.ids[row][before : before + sum(token.items for token in part)]
            one = replace(case, rows=(part,), item_ids=(tuple(ids),), says_documents=False)
            parts.append((row, places, replace(one, direction=case.directions[row])))
    return parts


@heavy()
@given(layout_cases(), seeds)
def test_padding_other_rows_and_other_documents_change_nothing(case, seed):
    """Each document of a padded, packed batch comes out as it does alone."""
    block = make_block(SMALL, seed)
    text, media, _ = inputs_of(case, seed)
    out = block(text, media, case.layout())
    for row, places, part in alone(case):
        close(out[row, places], block(text[row, places][None], media, part.layout())[0])


@heavy()
@given(layout_cases(), block_options(), seeds, st.booleans(), st.integers(0, 3))
def test_projected_media_are_the_media(case, options, seed, masked, cut):
    """A `MediaKV`, also one appended in two pieces, gives what the media give."""
    block = make_block(options, seed)
    text, media, _ = inputs_of(case, seed, options=options)
    valid = torch.rand(media.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.7 if masked else None
    expected = block(text, media, case.layout(), valid=valid)
    close(block(text, block.project_media(media, valid=valid), case.layout()), expected)
    head, tail = (
        block.project_media(media[part], valid=None if valid is None else valid[part])
        for part in (slice(None, cut), slice(cut, None))
    )
    close(block(text, head.append(tail), case.layout()), expected)


@heavy()
@given(layout_cases(shared=False), seeds, st.integers(0, 2), st.booleans())
def test_padded_media_are_the_packed_pool(case, seed, spare, masked):
    """Media as `[batch media latents dim]` with `from_grid` give what the packed pool gives, whatever pads it."""
    block = make_block(SMALL, seed)
    text, media, _ = inputs_of(case, seed)
    valid = torch.rand(media.shape[:2], generator=torch.Generator().manual_seed(seed)) < 0.7 if masked else None
    num_media = max(case.counts) + spare
    grid = torch.full((len(case.rows), num_media, *media.shape[1:]), float("nan"), dtype=media.dtype)
    flags = torch.ones(grid.shape[:3], dtype=torch.bool)
    for row, ids in enumerate(case.ids):
        grid[row, : len(ids)] = media[ids]
        if masked:
            flags[row, : len(ids)] = valid[ids]
    layout = MediaLayout.from_grid(case.is_media(), num_media=num_media, **case.options())
    out = block(text, grid, layout, valid=flags if masked else None)
    close(out, block(text, media, case.layout(), valid=valid))
    kv = block.project_media(grid, valid=flags if masked else None)
    close(block(text, kv, layout), out)


@heavy()
@given(layout_cases(), block_options(), seeds, st.sampled_from(["reference", "sdpa", "auto"]))
def test_backend_of_a_block_is_free(case, options, seed, backend):
    """A block computes the same, gradients of its weights included, on every backend that takes the layout."""
    text, media, cotangent = inputs_of(case, seed, options=options)
    results = []
    for name in ("reference", backend):
        block = make_block(options | {"backend": name}, seed)
        out = block(text, media, case.layout())
        results.append([out, *gradients(out, cotangent, block)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        close(ours, theirs)


@heavy()
@given(block_options(), seeds, st.integers(1, 3), st.integers(0, 4))
def test_text_only_batch_gives_every_weight_a_gradient(options, seed, rows, width):
    """With an empty pool the block runs, changes tokens by its dense layer alone, and no weight is left out."""
    block = make_block(options, seed)
    text = tensor(torch.Generator().manual_seed(seed), rows, width, options["dim"])
    layout = MediaLayout.from_tokens(torch.zeros(rows, width, dtype=torch.bool))
    out = block(text, torch.zeros(0, LATENTS, options["vision_dim"], dtype=torch.float64), layout)
    block.zero_grad()
    out.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in block.parameters())


@heavy()
@given(layout_cases(), block_options(), seeds, st.booleans())
def test_checkpointed_block_has_the_same_gradients(case, options, seed, projected):
    """Recomputing in the backward pass changes no loss and no gradient, two forwards before one backward included."""
    text, media, cotangent = inputs_of(case, seed, options=options)
    results = []
    for checkpointing in (False, True):
        block = make_block(options | {"activation_checkpointing": checkpointing}, seed)
        leaves = [text.clone().requires_grad_(), media.clone().requires_grad_()]
        shown = block.project_media(leaves[1]) if projected else leaves[1]
        out = block(leaves[0], shown, case.layout()) + block(leaves[0] * 2, shown, case.layout())
        results.append([out, *gradients(out, cotangent, block, *leaves)])
    for ours, theirs in zip(results[1], results[0], strict=True):
        close(ours, theirs)
