"""Block-diagonal backends where no GPU is: their plan is the layout's mask, and all but the kernel runs as on CUDA."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.ops.attention import _packed, reference
from flamingo_blocks.ops.attention.xformers_backend import block_diagonal_mask
from tests.block_kernels import KERNELS, fmha_or_skip, kernels_on_cpu
from tests.host_reads import NoHostReads
from tests.strategies import LayoutCase, heavy, light, seeds, single_item_cases, tensor

head_counts = st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)])
head_dims = st.sampled_from([1, 3, 8, 16])


@pytest.fixture(scope="module", params=KERNELS)
def attend(request):
    """The whole backend with plain torch in the place of its kernel; as strict about arguments as the kernel is."""
    with kernels_on_cpu(request.param) as attend:
        yield attend


def blocks_of(layout: MediaLayout, *, num_items: int, latents: int) -> _packed.Blocks:
    key = torch.empty(num_items, latents, 1, 8)
    return _packed._blocks(key, layout.plan.run_starts, layout.plan.host_run_starts)


def seen_latents(layout: MediaLayout, *, num_items: int, latents: int) -> Tensor:
    """The layout's own mask, by pool item and latent instead of by slot: [batch*text items*latents]."""
    mask = layout.mask()
    seen = torch.zeros(*mask.shape[:2], num_items, dtype=torch.bool)
    for row, ids in enumerate(layout.item_ids.tolist()):
        for slot, item in enumerate(ids):
            if item >= 0:
                seen[row, :, item] |= mask[row, :, slot]
    return seen.flatten(0, 1).repeat_interleave(latents, 1)


def in_places(packed: Tensor, layout: MediaLayout, *, num_items: int, latents: int) -> Tensor:
    """A mask over packed rows, scattered back: [batch*text items*latents]."""
    nobody = torch.zeros(1, packed.shape[1], dtype=torch.bool)
    rows = torch.cat([packed, nobody])[layout.plan.places.long()].unflatten(1, (-1, latents))
    seen = torch.zeros(len(rows), num_items, latents, dtype=torch.bool)
    seen[:, layout.plan.seen.long()] = rows
    return seen.flatten(1)


@light()
@given(single_item_cases(), st.integers(1, 3))
def test_the_mask_of_xformers_is_the_layouts(case: LayoutCase, latents: int):
    """The `BlockDiagonalMask`, materialised on the packed rows and scattered back, is `layout.mask()` by pool item."""
    fmha_or_skip()
    layout, sizes = case.layout().prepare(), {"num_items": case.num_items, "latents": latents}
    blocks = blocks_of(layout, **sizes)
    shape = (len(layout.plan.tokens), len(layout.plan.seen) * latents)
    for _ in range(2):  # the second layer has it from the first
        mask = block_diagonal_mask(blocks)
        assert mask.q_seqinfo.seqstart is layout.plan.run_starts  # no copy to the device
        assert mask.q_seqinfo.seqstart.tolist() == mask.q_seqinfo.seqstart_py
        assert mask.k_seqinfo.seqstart.tolist() == mask.k_seqinfo.seqstart_py
        packed = mask.materialize(shape) == 0
        assert torch.equal(in_places(packed, layout, **sizes), seen_latents(layout, **sizes))


@light()
@given(single_item_cases(), st.integers(1, 3))
def test_the_starts_of_blocks_are_the_layouts_mask(case: LayoutCase, latents: int):
    """Blocks between neighbouring starts, on the packed rows and scattered back, are `layout.mask()` by pool item."""
    layout, sizes = case.layout().prepare(), {"num_items": case.num_items, "latents": latents}
    blocks = blocks_of(layout, **sizes)
    packed = torch.zeros(len(layout.plan.tokens), len(layout.plan.seen) * latents, dtype=torch.bool)
    starts = blocks.query_starts.tolist(), blocks.key_starts.tolist()
    for (query_start, query_stop), (key_start, key_stop) in zip(*map(pairwise, starts), strict=True):
        packed[query_start:query_stop, key_start:key_stop] = True
    assert torch.equal(in_places(packed, layout, **sizes), seen_latents(layout, **sizes))
    assert blocks.query_lengths == blocks.query_starts.diff().tolist()


def results(attend, layout: MediaLayout, inputs: list[Tensor], cotangent: Tensor, scale: float) -> list[Tensor]:
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = attend(*inputs, layout, None, scale)
    return [out.detach(), *torch.autograd.grad(out, inputs, cotangent)]


def drawn(case: LayoutCase, seed: int, *, heads=(2, 1), head_dim=3, latents=2) -> tuple[list[Tensor], Tensor]:
    noise = torch.Generator().manual_seed(seed)
    query = tensor(noise, len(case.rows), case.width, heads[0], head_dim, dtype=torch.float32)
    media = [tensor(noise, case.num_items, latents, heads[1], head_dim, dtype=torch.float32) for _ in "kv"]
    return [query, *media], tensor(noise, *query.shape, dtype=torch.float32)


@heavy()
@given(single_item_cases(), seeds, head_counts, head_dims, st.integers(0, 4), st.sampled_from([0.3, 2.0, 0.0, -0.5]))
def test_all_but_the_kernel_is_the_reference(attend, case, seed, heads, head_dim, latents, scale):
    """Packing, the operator and the steps back give the output and gradients of `reference`, and read no value."""
    layout = case.layout().prepare()
    inputs, cotangent = drawn(case, seed, heads=heads, head_dim=head_dim, latents=latents)
    with NoHostReads():
        ours = results(attend, layout, inputs, cotangent, scale)
    theirs = results(reference.attend, layout, inputs, cotangent, scale)
    for actual, expected in zip(ours, theirs, strict=True):  # weights come back from a log-sum-exp of 24 bits
        torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    nothing = ~layout.sees_any()
    assert (ours[0][nothing] == 0).all()
    assert (ours[1][nothing] == 0).all()


@heavy()
@given(single_item_cases(), seeds, st.data())
def test_what_is_bad_stays_with_those_who_see_it(attend, case, seed, data):
    """NaN in an item gives NaN to the tokens that see it, and changes no other token or item, gradients included."""
    if case.num_items == 0:
        return
    bad = data.draw(st.sets(st.integers(0, case.num_items - 1), min_size=1))
    seen = [[bool(bad & set(items)) for items in row] for row in case.seen_items()]
    spoilt = torch.tensor(seen, dtype=torch.bool).reshape(len(case.rows), case.width)
    good = [item for item in range(case.num_items) if item not in bad]
    layout = case.layout().prepare()
    inputs, cotangent = drawn(case, seed)
    before = results(attend, layout, inputs, cotangent, 0.5)
    inputs[1][list(bad)] = inputs[2][list(bad)] = float("nan")
    after = results(attend, layout, inputs, cotangent, 0.5)
    for index in (0, 1):
        assert torch.equal(after[index][~spoilt], before[index][~spoilt])
    for index in (2, 3):
        assert torch.equal(after[index][good], before[index][good])
    assert after[0][spoilt].isnan().all()


@heavy()
@given(single_item_cases(), seeds, head_dims)
def test_nothing_is_read_inside_the_operators(case, seed, head_dim):
    """With every tensor but the host's on a device without values, the operators' own code gives the right shapes."""
    plan = case.layout().prepare().plan.to("meta")
    inputs, cotangent = drawn(case, seed, head_dim=head_dim)
    query, key, value, grad = (x.to("meta", torch.bfloat16) for x in (*inputs, cotangent))
    tensors = query, key, value, plan.seen, plan.tokens, plan.places, plan.run_starts, plan.host_run_starts
    kernel = _packed.Kernel(
        lambda query, key, value, blocks, scale: (query, query.new_empty(query.shape[1], query.shape[0])),
        lambda grad, query, key, value, out, lse, blocks, scale: (query, key, value),
    )
    out, lse = _packed.forward(kernel, *tensors, 1.0)
    grads = _packed.backward(kernel, grad, *tensors, out, lse, 1.0)
    for actual, like in zip((out, *grads), (query, query, key, value), strict=True):
        assert (actual.device.type, actual.shape, actual.dtype) == ("meta", like.shape, like.dtype)
        assert actual.is_contiguous()
    assert lse.shape == (query.shape[2], len(plan.tokens))
