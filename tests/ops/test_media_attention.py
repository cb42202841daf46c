"""`media_attention` in examples: odd sizes, empty sizes, the choice of a backend, and what each slip is told."""

import gc
import weakref

import pytest
import torch

from flamingo_blocks.errors import BackendRefusedError
from flamingo_blocks.ops import MediaLayout, available_backends, media_attention
from flamingo_blocks.ops.take_seen import take_seen
from tests.oracle import naive_attention
from tests.strategies import seen_by, tensor

TAGS = torch.tensor([[False, True, False, True], [True, False, False, False]])
REASONS = available_backends("cpu", torch.float64, layout=MediaLayout.from_tokens(TAGS))
BACKENDS = [name for name, reason in REASONS.items() if reason == "ok"]
every_backend = pytest.mark.parametrize("backend", [*BACKENDS, "auto"])


def problem(generator, *, batch=2, text=4, items=3, latents=2, heads=2, kv_heads=2, head_dim=4, dtype=torch.float64):
    query = tensor(generator, batch, text, heads, head_dim, dtype=dtype)
    return query, *(tensor(generator, items, latents, kv_heads, head_dim, dtype=dtype) for _ in "kv")


@every_backend
@pytest.mark.parametrize("text", [1, 63])
@pytest.mark.parametrize("latents", [1, 63])
@pytest.mark.parametrize(("head_dim", "heads", "kv_heads"), [(1, 1, 1), (7, 3, 1), (8, 4, 2)])
def test_odd_sizes(backend, text, latents, head_dim, heads, kv_heads, generator, assert_close):
    """Sizes that fit no tile of a kernel are right in output and gradient."""
    places = torch.arange(text)
    layout = MediaLayout.from_tokens(torch.stack([places % 5 == 2, places == 0]))
    sizes = dict(text=text, items=max(layout.num_items, 1), latents=latents)
    inputs = problem(generator, heads=heads, kv_heads=kv_heads, head_dim=head_dim, **sizes)
    inputs = [x.requires_grad_() for x in inputs]
    ours = media_attention(*inputs, layout, backend=backend)
    theirs = naive_attention(*inputs, seen_by(layout))
    assert_close(ours, theirs)
    cotangent = tensor(generator, *ours.shape)
    for our_grad, their_grad in zip(
        torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(theirs, inputs, cotangent), strict=True
    ):
        assert_close(our_grad, their_grad)


@every_backend
@pytest.mark.parametrize(
    ("batch", "text", "latents", "tags"),
    [(0, 3, 2, False), (2, 0, 2, False), (2, 3, 2, False), (2, 3, 0, True), (2, 1, 0, True)],
    ids=["no rows", "no text", "no media", "no latents", "no latents for one token"],
)
def test_empty_sizes_give_zeros_and_gradients(backend, batch, text, latents, tags, generator):
    """Where there is nothing to see the update is zero, and every input still gets a gradient."""
    layout = MediaLayout.from_tokens(torch.full((batch, text), tags))
    sizes = dict(batch=batch, text=text, items=layout.num_items, latents=latents)
    inputs = [x.requires_grad_() for x in problem(generator, **sizes)]
    out = media_attention(*inputs, layout, backend=backend)
    assert out.shape == inputs[0].shape
    assert (out == 0).all()
    for grad, given in zip(torch.autograd.grad(out.sum(), inputs), inputs, strict=True):
        assert grad.shape == given.shape
        assert (grad == 0).all()


@every_backend
def test_pool_nobody_names_gets_zero_gradients(backend, generator):
    """Items beyond those that a text-only batch names stay in the graph with a zero gradient."""
    layout = MediaLayout.from_tokens(torch.zeros(2, 4, dtype=torch.bool))
    inputs = [x.requires_grad_() for x in problem(generator)]
    out = media_attention(*inputs, layout, backend=backend)
    assert (out == 0).all()
    assert all((grad == 0).all() for grad in torch.autograd.grad(out.sum(), inputs))


@pytest.mark.parametrize("backend", [*BACKENDS, "one_token", "auto"])
def test_decoding_one_token_is_the_last_column(backend, generator, assert_close):
    """One new token a row, as `extend` and `slice` lay it out, reads what the row's last token read."""
    layout = MediaLayout.from_tokens(TAGS)
    query, key, value = problem(generator, text=1)
    step = layout.extend(1).slice(4, 5)
    out = media_attention(query, key, value, step, backend=backend)
    assert_close(out, naive_attention(query, key, value, [[[1]], [[2]]]))
    blind = MediaLayout.from_tokens(torch.zeros(2, 1, dtype=torch.bool))
    assert (media_attention(query, key, value, blind, backend=backend) == 0).all()


def test_a_layout_is_planned_once_and_forgotten_with_it(generator, monkeypatch):
    """A layout that was not prepared is planned at its first use, and the plan lives as long as the layout."""
    from flamingo_blocks.ops.attention import _shared

    made = []
    make_plan = _shared.make_plan
    monkeypatch.setattr(_shared, "make_plan", lambda *args: made.append(1) or make_plan(*args))
    layout = MediaLayout.from_tokens(TAGS)
    inputs = problem(generator)
    for _ in range(3):
        media_attention(*inputs, layout, backend="runs")
    assert len(made) == 1
    watched = weakref.ref(layout)
    del layout
    gc.collect()
    assert watched() is None


def test_a_plan_made_in_evaluation_serves_training(generator):
    """A layout that was planned under `inference_mode` has gradients later."""
    layout = MediaLayout.from_tokens(TAGS)
    inputs = [x.requires_grad_() for x in problem(generator)]
    with torch.inference_mode():
        media_attention(*inputs, layout, backend="runs")
    media_attention(*inputs, layout, backend="runs").sum().backward()
    assert all(x.grad is not None for x in inputs)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_layout_prepared_in_evaluation_serves_training(device):
    """What `prepare` makes under `inference_mode` holds no inference tensor, moved to another device or not."""
    layout = MediaLayout.from_tokens(TAGS)
    with torch.inference_mode():
        plan = layout.prepare(device).plan
    assert plan.seen.device.type == device
    assert not any(x.is_inference() for x in vars(plan).values() if isinstance(x, torch.Tensor))


def test_ranges_are_refused_with_the_reason_and_auto_goes_on(generator, assert_close):
    """A backend for one item a token refuses ranges; the error lists all backends, and `auto` takes another."""
    layout = MediaLayout.from_tokens(TAGS, scope="all")
    inputs = problem(generator)
    reasons = available_backends("cpu", torch.float64, layout=layout)
    assert "several items" in reasons["runs"]
    assert reasons["sdpa"] == reasons["reference"] == "ok"
    with pytest.raises(BackendRefusedError, match="(?s)'runs' cannot run .*several items.*reference: ok.*sdpa: ok"):
        media_attention(*inputs, layout, backend="runs")
    assert_close(media_attention(*inputs, layout), naive_attention(*inputs, seen_by(layout)))


def test_unknown_backend_is_told():
    """An unknown name is answered with the known ones."""
    layout = MediaLayout.from_tokens(TAGS)
    x, pool = torch.zeros(2, 4, 1, 2), torch.zeros(3, 1, 1, 2)
    with pytest.raises(ValueError, match="backend is 'flash', wanted 'auto' or one of 'reference', 'sdpa', 'runs'"):
        media_attention(x, pool, pool, layout, backend="flash")


SLIPS = {
    "pool too small": (dict(items=2), "the media pool holds 2 items, but the layout names item 2"),
    "no pool": (dict(items=0), "the media pool holds 0 items, but the layout names item 2"),
    "heads that do not divide": (dict(heads=3, kv_heads=2), "query has 3 heads and key 2"),
    "text of another width": (dict(text=5), r"query has batch and text \(2, 5\), the layout \(2, 4\)"),
    "rows of another batch": (dict(batch=4), r"query has batch and text \(4, 4\), the layout \(2, 4\).*repeat_rows"),
}


@every_backend
@pytest.mark.parametrize("name", SLIPS)
def test_slip_is_told(name, backend, generator):
    """Sizes that do not fit each other are told with both numbers, whatever the backend."""
    sizes, message = SLIPS[name]
    with pytest.raises(ValueError, match=message):
        media_attention(*problem(generator, **sizes), MediaLayout.from_tokens(TAGS), backend=backend)


@every_backend
def test_a_pool_may_hold_items_that_no_row_names(backend, generator, assert_close):
    """A pool larger than the ids in use is fine: shared pools and spare items are."""
    inputs = problem(generator, items=5)
    layout = MediaLayout.from_tokens(TAGS)
    assert_close(media_attention(*inputs, layout, backend=backend), naive_attention(*inputs, seen_by(layout)))


def test_mixed_dtypes_are_told(generator):
    """Query, key and value have to agree; nothing is cast in silence."""
    query, key, value = problem(generator)
    with pytest.raises(ValueError, match="torch.float64, torch.float32 and torch.float64; wanted one dtype"):
        media_attention(query, key.float(), value, MediaLayout.from_tokens(TAGS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, k, v: (q[0], k, v, {}), r"query, key and value have shapes \(4, 2, 4\)"),
        (lambda q, k, v: (q, k[:, :1], v, {}), r"\(3, 1, 2, 4\) and \(3, 2, 2, 4\)"),
        (lambda q, k, v: (q, k[..., :2], v[..., :2], {}), "with one head_dim"),
        (lambda q, k, v: (q, k, v, {"valid": torch.ones(3, 2)}), "valid is torch.float32 .* wanted bool"),
        (
            lambda q, k, v: (q, k, v, {"valid": torch.ones(2, 2, dtype=torch.bool)}),
            r"valid .*\(2, 2\), wanted .*\(3, 2\)",
        ),
    ],
    ids=["query of one row", "keys and values differ", "another head_dim", "valid as floats", "valid of another pool"],
)
def test_wrong_shape_is_told(change, message, generator, without_shape_checks):
    """The library says itself which shape does not fit, without a type checker."""
    query, key, value, options = change(*problem(generator))
    with pytest.raises(ValueError, match=message):
        media_attention(query, key, value, MediaLayout.from_tokens(TAGS), **options)


@pytest.mark.parametrize("backend", ["reference", "sdpa", "auto"])
def test_gradients_go_round_a_bad_item_in_a_range(backend, generator):
    """Two tokens see item 0 and one of them a NaN too: the other one's gradients stay finite."""
    layout = MediaLayout.from_tokens(torch.tensor([[True, True]]), scope="all")
    query, key, value = problem(generator, batch=1, text=2, items=2)
    key[1] = float("nan")
    inputs = [x.requires_grad_() for x in (query, key, value)]
    out = media_attention(*inputs, layout, backend=backend)
    assert out[0, 0].isfinite().all()
    assert out[0, 1].isnan().all()
    query_grad, key_grad, value_grad = torch.autograd.grad(out[0, 0].sum(), inputs)
    assert query_grad[0, 0].any()
    assert all(grad.isfinite().all() for grad in (query_grad, key_grad[0], value_grad[0]))


@every_backend
def test_no_global_state_is_touched(backend, generator):
    """Inputs are left as they were, and running twice gives the same bits."""
    inputs = problem(generator)
    copies = [x.clone() for x in inputs]
    layout = MediaLayout.from_tokens(TAGS)
    first, second = (media_attention(*inputs, layout, backend=backend) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(x, copy) for x, copy in zip(inputs, copies, strict=True))


def test_a_pool_with_unseen_items_is_renumbered_once_for_all_blocks():
    """All blocks get the same layout of the seen items, so that what backends remember by layout is made once."""
    with torch.inference_mode():
        prepared = MediaLayout.from_tokens(TAGS, item_ids=torch.tensor([[1, 3], [0, -1]])).prepare()
        layouts = [take_seen(torch.zeros(5, 2, 1), None, prepared)[2] for _ in range(2)]
    assert layouts[0] is layouts[1]
    assert not layouts[0].item_ids.is_inference()
    watched = weakref.ref(layouts[0])
    del prepared, layouts
    gc.collect()
    assert watched() is None
