"""The integers of a prepared layout: what kernels without a mask are told, and that nothing else is read."""

from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from flamingo_blocks import GatedCrossAttentionBlock
from flamingo_blocks.ops import MediaLayout, attention_plan, media_attention
from flamingo_blocks.ops.attention_plan import _PRICE_OF_PIECE
from flamingo_blocks.ops.take_seen import take_seen
from tests.host_reads import NoHostReads
from tests.strategies import (
    LayoutCase,
    block_options,
    heavy,
    layout_cases,
    light,
    make_block,
    seeds,
    seen_by,
    single_item_cases,
    tensor,
)


@light()
@given(single_item_cases())
def test_runs_are_the_tokens_of_each_seen_item(case: LayoutCase):
    """Run i holds the tokens that see item `seen[i]`, in their order, and `places` finds each of them again."""
    plan = case.layout().prepare().plan
    tokens = {}
    for row, columns in enumerate(case.seen_items()):
        for column, items in enumerate(columns):
            tokens.setdefault(items[0] if items else None, []).append(row * case.width + column)
    nobody = tokens.pop(None, [])
    starts = plan.run_starts.tolist()
    assert plan.host_run_starts.tolist() == starts
    runs = {item: plan.tokens[a:b].tolist() for item, a, b in zip(plan.seen.tolist(), starts, starts[1:], strict=False)}
    assert runs == tokens
    assert len(starts) == len(runs) + 1
    assert plan.places[nobody].tolist() == [len(plan.tokens)] * len(nobody)
    assert plan.tokens[plan.places[plan.tokens.long()].long()].tolist() == plan.tokens.tolist()


@light()
@given(single_item_cases(), st.integers(1, 4))
def test_pieces_hold_each_token_that_sees_once(case: LayoutCase, piece: int):
    """Every token that sees something stands at its position, and fills beside it come from the same run."""
    with patch.object(attention_plan, "_piece_size", lambda _: piece):
        plan = case.layout().prepare().plan
    items = [token[0] if token else None for row in case.seen_items() for token in row]
    size = plan.pieces.numel()
    for token, position in enumerate(plan.positions.tolist()):
        assert (position == size) == (items[token] is None)
        assert position == size or plan.pieces.flatten()[position] == token
    for tokens, item in zip(plan.pieces.tolist(), plan.piece_items.tolist(), strict=True):
        assert {items[token] for token in tokens} == {item}


@light()
@given(st.lists(st.integers(1, 600), min_size=1, max_size=8))
@example([1000] + [2] * 63)
@example([1000] + [20] * 31)
def test_one_long_run_costs_the_short_ones_nothing(lengths: list[int]):
    """Rows computed and copies of keys come to twice at most of what runs without any cutting or filling would need."""
    tags = torch.zeros(1, sum(lengths), dtype=torch.bool)
    tags[0, torch.tensor([0, *lengths[:-1]]).cumsum(0)] = True
    pieces = MediaLayout.from_tokens(tags).prepare().plan.pieces
    cost = pieces.numel() + _PRICE_OF_PIECE * pieces.shape[0]
    assert cost <= 2 * (sum(lengths) + _PRICE_OF_PIECE * len(lengths))


@light()
@given(layout_cases())
def test_the_host_keeps_what_kernels_read(case: LayoutCase):
    """The plan goes to a device without its host integers: they stay on the CPU, and are read there."""
    plan = case.layout().prepare().plan.to("meta")
    assert (plan.seen.device.type, plan.host_pool_size.device.type) == ("meta", "cpu")
    assert plan.host_pool_size.tolist() == [1 + max((i for row in case.ids for i in row), default=-1)]
    single = all(len(token) < 2 for row in case.seen_items() for token in row)
    assert plan.single_item == single
    assert (plan.host_run_starts is not None) == single
    assert not single or (plan.host_run_starts.device.type, plan.tokens.device.type) == ("cpu", "meta")


@light()
@given(layout_cases(), st.integers(0, 3), st.integers(1, 3))
def test_single_item_is_never_said_of_a_range(case: LayoutCase, num_tokens: int, times: int):
    """Where a layout says that no token sees several items it is so, after every method; `prepare` says it exactly."""
    layout = case.layout()
    widest = max((len(token) for row in case.extended(num_tokens).seen_items() for token in row), default=0)
    for changed in (layout, layout.extend(num_tokens), layout.slice(0, 1), layout.repeat_rows(times)):
        assert not changed.single_item or widest < 2
    widest = max((len(token) for row in case.seen_items() for token in row), default=0)
    assert layout.prepare().single_item == (widest < 2)
    plain = (case.scope, case.grouped) == ("last", False) and "per_tag" not in case.options()
    assert layout.single_item == plain  # known without reading a value


@light()
@given(layout_cases(), st.booleans())
def test_only_seen_items_are_taken(case: LayoutCase, prepared: bool):
    """The pool that is left holds the seen items in order, and each token sees in it what it saw in the whole pool."""
    layout = case.layout().prepare() if prepared else case.layout()
    flags = torch.rand(case.num_items, 2) < 0.5
    pool, valid, renumbered = take_seen(torch.arange(float(case.num_items)), flags, layout)
    assert [[[int(pool[item]) for item in token] for token in row] for row in seen_by(renumbered)] == case.seen_items()
    if prepared:
        assert torch.equal(valid, flags[pool.long()])
        assert pool.tolist() == sorted({item for row in case.seen_items() for token in row for item in token})
        assert renumbered.plan.host_pool_size.tolist() == [len(pool)] or len(pool) == case.num_items


@heavy()
@given(layout_cases(), block_options(), seeds, st.none() | st.integers(1, 3))
def test_a_plan_changes_no_result(case: LayoutCase, options, seed, piece: int | None):
    """A block gives the same with and without a plan, however runs are cut; items that nobody sees get zeros."""
    results = []
    cut = nullcontext() if piece is None else patch.object(attention_plan, "_piece_size", lambda _: piece)
    with cut:  # texts this short would never be cut otherwise
        prepared = case.layout().prepare()
    for layout in (case.layout(), prepared):
        block = make_block(options, seed)
        noise = torch.Generator().manual_seed(seed)
        text = tensor(noise, len(case.rows), case.width, 8).requires_grad_()
        media = tensor(noise, case.num_items, 2, options["vision_dim"]).requires_grad_()
        out = block(text, media, layout)
        weights = [text, media, *block.parameters()]
        results.append([out, *torch.autograd.grad(out, weights, tensor(noise, *out.shape), materialize_grads=True)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@given(seeds, st.integers(1, 3), st.integers(1, 3))
def test_cut_runs_find_their_items_among_the_seen(seed: int, spare: int, piece: int):
    """Where items before the seen ones are left out and runs are cut, each piece still reads its own item."""
    is_media = torch.tensor([[True, False, False, True, False]])
    layout = MediaLayout.from_tokens(is_media, item_ids=torch.tensor([[spare, spare + 1]]))
    with patch.object(attention_plan, "_piece_size", lambda _: piece):
        prepared = layout.prepare()
    block = GatedCrossAttentionBlock(8, vision_dim=6, num_heads=2).double()
    noise = torch.Generator().manual_seed(seed)
    text, media = tensor(noise, 1, 5, 8), tensor(noise, spare + 2, 2, 6)
    attend = block.attention
    torch.testing.assert_close(attend(text, media, prepared), attend(text, media, layout), atol=1e-9, rtol=1e-9)


@heavy()
@given(layout_cases(), block_options(), seeds, st.booleans())
def test_forward_and_backward_read_no_value(case: LayoutCase, options, seed, projected: bool):
    """With a prepared layout no value is read from a tensor, so that on a GPU the host never waits for the device."""
    layout = case.layout().prepare()
    block = make_block(options, seed)
    noise = torch.Generator().manual_seed(seed)
    text = tensor(noise, len(case.rows), case.width, 8).requires_grad_()
    media = tensor(noise, case.num_items, 2, options["vision_dim"])
    with NoHostReads():
        out = block(text, block.project_media(media) if projected else media, layout)
        out.sum().backward()


@heavy()
@given(single_item_cases(), seeds, st.integers(1, 3))
def test_decoding_reads_no_value(case: LayoutCase, seed, times):
    """Decoding steps of a single-item layout need no plan and read no value, beams and all."""
    block = GatedCrossAttentionBlock(8, vision_dim=6, num_heads=2).double()
    noise = torch.Generator().manual_seed(seed)
    kv = block.project_media(tensor(noise, case.num_items, 2, 6))
    layout = case.layout().prepare().repeat_rows(times)
    with torch.no_grad(), NoHostReads():
        for column in range(case.width + 2):
            step = layout.slice(column, column + 1)
            assert block.attention.backend == "auto"
            block(tensor(noise, len(case.rows) * times, 1, 8), kv, step)


def test_the_guard_finds_a_read(generator):
    """The guard is no blindfold: a layout that was not prepared is caught reading."""
    layout = MediaLayout.from_tokens(torch.tensor([[True, False, True]]))
    query, media = tensor(generator, 1, 3, 1, 4), tensor(generator, 2, 3, 1, 4)
    with pytest.raises(AssertionError, match="reads values in .*attention_plan.py"), NoHostReads():
        media_attention(query, media, media, layout)


READS = """x[0].item()|x.tolist()|x.cpu()|x.numpy()|bool(x[0] > 0)|torch.equal(x, x)|torch.nonzero(x)|torch.argwhere(x)
torch.where(x > 0)|x[x > 0]|x[None][:, x > 0]|x.masked_select(x > 0)|x.bincount()|x.repeat_interleave(x)
torch.repeat_interleave(x)|x.unique()|x.unique(sorted=False, return_counts=True)|x.unique_consecutive()
x[:, None].unique(dim=0)|x[:, None].unique_consecutive(dim=0)
x.index_put_((x > 0,), y)|x.index_put((x > 0,), y)|x.__setitem__(x > 0, y)"""
FREE = """x[torch.tensor([1, 0])]|x.repeat_interleave(x, output_size=3)|x.repeat_interleave(2)|x.masked_fill(x > 0, 1)
x.__setitem__(x > 0, 7)|x.index_put((y,), x[:2])|torch.where(x > 0, x, 0)|x.sort()|x.count_nonzero()|x.to("cpu")"""


def as_the_library(line: str) -> None:
    """Run a line as if it stood in a module of the library."""
    exec(
        line,
        {
            "__name__": "flamingo_blocks.somewhere",
            "torch": torch,
            "x": torch.tensor([1, 2, 0]),
            "y": torch.tensor([0, 1]),
        },
    )


@pytest.mark.parametrize("line", READS.replace("\n", "|").split("|"))
def test_the_guard_finds_each_way_to_read(line):
    """Values that are read, and sizes that are made of values, masks as indices among them."""
    as_the_library(line)
    with pytest.raises(AssertionError, match="reads values in <string>"), NoHostReads():
        as_the_library(line)


@pytest.mark.parametrize("line", FREE.replace("\n", "|").split("|"))
def test_the_guard_lets_pass_what_reads_nothing(line):
    """Indices that are numbers, sizes that are told, one value under a mask."""
    with NoHostReads():
        as_the_library(line)
