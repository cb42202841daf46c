"""Laws 2, 3, 10 and 15 for `media_attention`: every backend is the plain loops, in output and in gradient."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from flamingo_blocks.errors import BackendRefusedError
from flamingo_blocks.ops import MediaLayout, available_backends, media_attention
from tests.oracle import naive_attention
from tests.strategies import LayoutCase, heavy, layout_cases, seeds, single_item_cases, tensor

BOUNDS = {torch.float64: 1e-9, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
PLACES = [(device, name) for device in DEVICES for name in [*available_backends(device, torch.float32), "auto"]]

every_backend = pytest.mark.parametrize("backend", PLACES, ids="-".join)
cases = layout_cases() | single_item_cases()  # the second kind is the one that all backends run
head_counts = st.sampled_from([(1, 1), (2, 1), (4, 2), (3, 3)])


class Problem:
    """Query, key and value of a case, drawn from its seed; `valid` hides some latents."""

    def __init__(
        self, case: LayoutCase, seed: int, *, heads=(2, 1), head_dim=3, latents=2, masked=False, dtype=torch.float64
    ):
        noise = torch.Generator().manual_seed(seed)
        self.query = tensor(noise, len(case.rows), case.width, heads[0], head_dim, dtype=dtype)
        self.key, self.value = (tensor(noise, case.num_items, latents, heads[1], head_dim, dtype=dtype) for _ in "kv")
        self.cotangent = tensor(noise, *self.query.shape, dtype=dtype)
        self.valid = torch.rand(case.num_items, latents, generator=noise) < 0.7 if masked else None

    def run(self, attend) -> list[Tensor]:
        """Output, and the gradients of query, key and value, of `attend(query, key, value, valid)`."""
        inputs = [x.clone().requires_grad_() for x in (self.query, self.key, self.value)]
        out = attend(*inputs, self.valid)
        return [out.detach(), *torch.autograd.grad(out, inputs, self.cotangent)]


def with_layout(layout: MediaLayout, backend: tuple[str, str], *, scale: float | None = None):
    """Attention on the backend's device; inputs and outputs stay on the CPU."""
    device, name = backend

    def attend(query, key, value, valid):
        query, key, value = (x.to(device) for x in (query, key, value))
        valid = None if valid is None else valid.to(device)
        out = media_attention(query, key, value, layout.to(device), valid=valid, scale=scale, backend=name)
        return out.cpu()

    return attend


def in_loops(case: LayoutCase):
    seen = case.seen_items()

    def attend(query, key, value, valid):
        wide = [x.double() for x in (query, key, value)]
        nothing = sum(x.flatten()[:0].sum() for x in wide)  # keeps all three in the graph
        return (naive_attention(*wide, seen, valid=valid) + nothing).to(query.dtype)

    return attend


def refused(
    layout: MediaLayout, backend: tuple[str, str], dtype: torch.dtype = torch.float64, *, masked: bool = False
) -> bool:
    device, name = backend
    return name != "auto" and available_backends(device, dtype, layout=layout, has_valid=masked)[name] != "ok"


@every_backend
@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@heavy()
@given(cases, seeds, head_counts, st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans())
def test_backend_is_the_loops(backend, dtype, case, seed, heads, head_dim, latents, masked, prepared):
    """Output and the gradients of q, k and v are those of the loops, whatever is masked, shared, padded or empty."""
    layout = case.layout().prepare("cpu") if prepared else case.layout()
    problem = Problem(case, seed, heads=heads, head_dim=head_dim, latents=latents, masked=masked, dtype=dtype)
    if refused(layout, backend, dtype, masked=masked):
        with pytest.raises(BackendRefusedError):
            problem.run(with_layout(layout, backend))
        return
    actual, expected = problem.run(with_layout(layout, backend)), problem.run(in_loops(case))
    for ours, theirs in zip(actual, expected, strict=True):
        assert ours.dtype == dtype
        bound = BOUNDS[dtype]
        if dtype.itemsize == 2 and theirs.numel():  # each term of a sum over tokens is rounded to a few bits
            bound *= max(1.0, float(theirs.abs().max())) * max(1.0, len(case.rows) * case.width) ** 0.5
        torch.testing.assert_close(ours, theirs, atol=bound, rtol=BOUNDS[dtype])


items_of_rows = st.one_of(
    st.builds(
        lambda start, step, rows: [start + step * row for row in range(rows)],
        *[st.integers(0, 2)] * 2,
        st.integers(1, 3),
    ),
    st.lists(st.integers(-1, 6), min_size=1, max_size=4),
)


@every_backend
@heavy()
@given(items_of_rows, seeds, head_counts, st.booleans())
def test_one_token_a_row_is_the_loops(backend, items, seed, heads, masked):
    """Decoding: rows at even distances in the pool, rows that share an item, any others, and rows without one."""
    ids = torch.tensor(items)[:, None]
    layout = MediaLayout.from_tokens(ids >= 0, item_ids=ids)
    if refused(layout, backend, masked=masked):
        return
    noise = torch.Generator().manual_seed(seed)
    text, media = (len(items), 1, heads[0], 3), (7, 2, heads[1], 3)
    inputs = [tensor(noise, *shape).requires_grad_() for shape in (text, media, media)]
    valid = torch.rand(7, 2, generator=noise) < 0.7 if masked else None
    seen = [[[item] if item >= 0 else []] for item in items]
    outs = [with_layout(layout, backend)(*inputs, valid), naive_attention(*inputs, seen, valid=valid)]
    nothing = sum(x.flatten()[:0].sum() for x in inputs)  # keeps all three in the graph
    results = [[out, *torch.autograd.grad((out + nothing).sum(), inputs)] for out in outs]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@every_backend
@heavy()
@given(cases, seeds, st.booleans())
def test_tokens_that_see_nothing_get_exact_zeros(backend, case, seed, masked):
    """A token that may attend to no latent gets an update of exactly 0, and its query a gradient of exactly 0."""
    layout = case.layout()
    if refused(layout, backend, masked=masked):
        return
    problem = Problem(case, seed, masked=masked)
    out, query_grad, *_ = problem.run(with_layout(layout, backend))
    valid = torch.ones(case.num_items, 2, dtype=torch.bool) if problem.valid is None else problem.valid
    for row, tokens in enumerate(case.seen_items()):
        for token, items in enumerate(tokens):
            if not any(valid[item].any() for item in items):
                assert (out[row, token] == 0).all()
                assert (query_grad[row, token] == 0).all()


@every_backend
@heavy()
@given(cases, seeds)
def test_influence_is_exactly_visibility(backend, case, seed):
    """The gradient d out[t] / d item[j] is non-zero where some slot that holds j is visible to t, else exactly zero."""
    layout = case.layout()
    if refused(layout, backend):
        return
    problem = Problem(case, seed, heads=(1, 1))
    key, value = problem.key.requires_grad_(), problem.value.requires_grad_()
    out = with_layout(layout, backend)(problem.query, key, value, None)
    for row, tokens in enumerate(case.seen_items()):
        for token, items in enumerate(tokens):
            target = (out[row, token] * problem.cotangent[row, token]).sum()
            key_grad, value_grad = torch.autograd.grad(target, (key, value), retain_graph=True)
            moved = {item for item in range(case.num_items) if value_grad[item].any()}
            assert moved == set(items)
            assert {item for item in range(case.num_items) if key_grad[item].any()} <= set(items)


BAD = [float("nan"), float("inf"), float("-inf")]


@every_backend
@heavy()
@given(cases, seeds, st.sampled_from(BAD), st.data())
def test_what_is_not_seen_cannot_reach_a_token(backend, case, seed, bad_value, data):
    """NaN or Inf in an item changes no token that does not see it, nor that token's gradients, by a single bit."""
    layout = case.layout()
    if refused(layout, backend) or case.num_items == 0:
        return
    bad = data.draw(st.sets(st.integers(0, case.num_items - 1), min_size=1))
    seen = case.seen_items()
    clean_tokens = torch.tensor([[not bad & set(items) for items in row] for row in seen], dtype=torch.bool)
    clean_tokens = clean_tokens.reshape(len(seen), case.width)
    good = [item for item in range(case.num_items) if item not in bad]
    problem = Problem(case, seed)
    problem.cotangent[~clean_tokens] = 0
    clean = problem.run(with_layout(layout, backend))
    problem.key[list(bad)] = problem.value[list(bad)] = bad_value
    spoilt = problem.run(with_layout(layout, backend))
    for index in (0, 1):
        assert torch.equal(spoilt[index][clean_tokens], clean[index][clean_tokens])
    for index in (2, 3):
        assert torch.equal(spoilt[index][good], clean[index][good])
    if math.isnan(bad_value):
        assert spoilt[0][~clean_tokens].isnan().all()


@every_backend
@heavy()
@given(cases, seeds, st.sampled_from(BAD))
def test_masked_latents_have_no_influence(backend, case, seed, bad_value):
    """What stands in a latent that does not count, NaN included, changes nothing and gets no gradient."""
    layout = case.layout()
    if refused(layout, backend, masked=True):
        return
    problem = Problem(case, seed, latents=3, masked=True)
    clean = problem.run(with_layout(layout, backend))
    problem.key[~problem.valid] = problem.value[~problem.valid] = bad_value
    spoilt = problem.run(with_layout(layout, backend))
    for ours, theirs in zip(spoilt, clean, strict=True):
        assert torch.equal(ours, theirs)
    assert (clean[2][~problem.valid] == 0).all()
    assert (clean[3][~problem.valid] == 0).all()


@every_backend
@heavy()
@given(cases, seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_pool_is_free(backend, case, seed, random):
    """Permuting the pool together with its ids changes neither output nor gradients."""
    layout = case.layout()
    if refused(layout, backend):
        return
    order = random.sample(range(case.num_items), case.num_items)
    place = torch.tensor([order.index(item) for item in range(case.num_items)] + [-1])
    moved = MediaLayout(place[layout.item_ids], layout.first, layout.last, layout.direction)
    problem = Problem(case, seed)
    out, query_grad, *media_grads = problem.run(with_layout(layout, backend))
    problem.key, problem.value = problem.key[order], problem.value[order]
    moved_out, moved_query_grad, *moved_media_grads = problem.run(with_layout(moved, backend))
    torch.testing.assert_close(moved_out, out, atol=1e-12, rtol=0)
    torch.testing.assert_close(moved_query_grad, query_grad, atol=1e-12, rtol=0)
    for ours, theirs in zip(moved_media_grads, media_grads, strict=True):
        torch.testing.assert_close(ours, theirs[order], atol=1e-12, rtol=0)


@every_backend
@heavy()
@given(cases, seeds)
def test_a_shared_item_is_its_copies(backend, case, seed):
    """An item that several slots name acts as copies would, and its gradient is the sum of theirs."""
    layout = case.layout()
    if refused(layout, backend):
        return
    problem = Problem(case, seed)
    out, query_grad, *media_grads = problem.run(with_layout(layout, backend))
    names = torch.tensor([item for row in case.ids for item in row], dtype=torch.long)
    slots = iter(range(len(names)))
    ids = [[next(slots) for _ in row] + [-1] * (layout.item_ids.shape[1] - len(row)) for row in case.ids]
    copies = MediaLayout(
        torch.tensor(ids, dtype=torch.long).reshape(layout.item_ids.shape), layout.first, layout.last, layout.direction
    )
    size = case.num_items
    problem.key, problem.value = problem.key[names], problem.value[names]
    copied_out, copied_query_grad, *copied_grads = problem.run(with_layout(copies, backend))
    torch.testing.assert_close(copied_out, out, atol=1e-12, rtol=0)
    torch.testing.assert_close(copied_query_grad, query_grad, atol=1e-12, rtol=0)
    for ours, theirs in zip(copied_grads, media_grads, strict=True):
        summed = torch.zeros(size, *ours.shape[1:], dtype=ours.dtype).index_add(0, names, ours)
        torch.testing.assert_close(summed, theirs, atol=1e-12, rtol=0)


@every_backend
@heavy()
@given(single_item_cases() | layout_cases(), seeds, st.floats(0.1, 3.0))
def test_scale_is_a_factor_on_the_scores(backend, case, seed, scale):
    """`scale` replaces `head_dim ** -0.5`."""
    layout = case.layout()
    if refused(layout, backend):
        return
    problem = Problem(case, seed)
    ours = with_layout(layout, backend, scale=scale)(problem.query, problem.key, problem.value, None)
    theirs = naive_attention(problem.query, problem.key, problem.value, case.seen_items(), scale=scale)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@heavy()
@given(cases, st.sampled_from([torch.float32, torch.bfloat16]))
def test_reasons_are_told_before_they_bite(case, dtype):
    """`available_backends` says of each layout what asking for the backend then does: run, or raise that reason."""
    layout = case.layout()
    problem = Problem(case, 0, dtype=dtype)
    reasons = available_backends(
        "cpu", dtype, head_dim=3, num_heads=2, num_kv_heads=1, requires_grad=False, layout=layout
    )
    for backend, reason in reasons.items():
        attend = with_layout(layout, ("cpu", backend))
        if reason == "ok":
            attend(problem.query, problem.key, problem.value, None)
        else:
            with pytest.raises(BackendRefusedError, match=re.escape(reason)):
                attend(problem.query, problem.key, problem.value, None)


@every_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("text", ["aMbMc", "abc"])
def test_autocast_changes_no_dtype(backend, dtype, text, generator):
    """The result has the dtype of the query in every backend, with media and without any."""
    device, name = backend
    layout = MediaLayout.from_tokens(torch.tensor([[word == "M" for word in text]])).prepare(device)
    if name == "one_token":
        layout = layout.slice(layout.num_text - 1, layout.num_text)
    if refused(layout, backend, dtype):
        pytest.skip("refused")
    query = tensor(generator, 1, layout.num_text, 2, 4, dtype=dtype).to(device)
    key, value = (tensor(generator, layout.num_items, 3, 2, 4, dtype=dtype).to(device) for _ in "kv")
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16):
        assert media_attention(query, key, value, layout, backend=name).dtype == dtype


@every_backend
@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_token_that_sees_a_bad_value_is_not_finite(backend, number, generator):
    """Which numbers of it, and how, differs by backend; tokens that see another item are finite in all."""
    layout = MediaLayout.from_tokens(torch.tensor([[True, False], [True, False]])).prepare()
    if backend[1] == "one_token":
        layout = layout.slice(1, 2)
    if refused(layout, backend, torch.float32):
        pytest.skip("refused")
    query = tensor(generator, 2, layout.num_text, 2, 4, dtype=torch.float32)
    key, value = (tensor(generator, 2, 3, 2, 4, dtype=torch.float32) for _ in "kv")
    value[0, 0, 0, 0] = number
    with torch.no_grad():
        out = with_layout(layout, backend)(query, key, value, None)
    assert not out[0, :, 0, 0].isfinite().any()
    assert out[1].isfinite().all()
