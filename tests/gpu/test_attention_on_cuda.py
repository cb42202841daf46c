"""Every attention backend on CUDA against `reference` in float32 on the same inputs, in output and gradient."""

import os
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from flamingo_blocks.errors import BackendRefusedError
from flamingo_blocks.ops import MediaLayout, available_backends, media_attention
from flamingo_blocks.ops.attention import varlen, xformers_backend
from flamingo_blocks.ops.attention.dispatch import BACKENDS
from tests.gpu.waiting import waits_are_errors

pytestmark = pytest.mark.gpu

BLOCK_DIAGONAL = ("xformers", "varlen")
HALF = (torch.float16, torch.bfloat16)
# Behind these there is a mistake: ours, or an xformers built for another CUDA than torch, all of whose kernels are out.
BROKEN = ("a call on one token fails", "importing xformers fails", "xFormers wasn't build with CUDA support")
# Of the largest number compared. A gradient adds up terms that were rounded to the dtype: 11 and 8 bits.
BOUNDS = {torch.float32: 2e-4, torch.float16: 4e-3, torch.bfloat16: 2e-2}

every_backend = pytest.mark.parametrize("backend", sorted(set(BACKENDS) - {"reference"}))
every_dtype = pytest.mark.parametrize("dtype", BOUNDS, ids=str)


@dataclass(frozen=True)
class Case:
    """Rows of tags (1) and text (0), and what the pool and heads are like."""

    rows: tuple[str, ...]
    latents: int = 64
    head_dim: int = 64
    heads: tuple[int, int] = (8, 8)
    item_ids: tuple[tuple[int, ...], ...] | None = None
    spare_items: int = 0
    direction: str = "previous"
    scale: float | None = None

    def layout(self) -> MediaLayout:
        tags = torch.tensor([[mark == "1" for mark in row] for row in self.rows], dtype=torch.bool)
        ids = None
        if self.item_ids is not None:
            width = max(len(row) for row in self.item_ids)
            ids = [[*row, *[-1] * (width - len(row))] for row in self.item_ids]
            ids = torch.tensor(ids, dtype=torch.long).reshape(len(ids), width)
        layout = MediaLayout.from_tokens(tags, item_ids=ids, direction=self.direction)
        return layout.prepare().to("cuda")

    @property
    def num_items(self) -> int:
        if self.item_ids is not None:
            return 1 + max(max(row, default=-1) for row in self.item_ids) + self.spare_items
        return sum(row.count("1") for row in self.rows) + self.spare_items

    def inputs(self, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
        """Query, key, value and the gradient of the output."""
        noise = torch.Generator("cuda").manual_seed(seed)
        text = (len(self.rows), len(self.rows[0]), self.heads[0], self.head_dim)
        media = (self.num_items, self.latents, self.heads[1], self.head_dim)
        return [torch.randn(shape, generator=noise, device="cuda").to(dtype) for shape in (text, media, media, text)]


def row(*runs: int, before: int = 0, after: int = 0) -> str:
    """Text before the first tag, then a tag and text for each run, then more text."""
    return "0" * before + "".join("1" + "0" * (run - 1) for run in runs) + "0" * after


CASES = {
    "one tile": Case((row(32, 32, 32), row(96))),
    "odd everything": Case((row(1, 7, 130, before=3), row(2, 63, 64, 12)), latents=5, head_dim=40, heads=(3, 3)),
    "one latent": Case((row(5, 6, before=2), row(13)), latents=1),
    "many latents": Case((row(300), row(77, 99, 124)), latents=300, head_dim=128, heads=(2, 2)),
    "heads padded": Case((row(9, 20), row(3, before=26)), latents=7, head_dim=20, heads=(2, 2)),
    "head of three": Case((row(9, 20), row(3, before=26)), latents=7, head_dim=3, heads=(1, 1)),
    "widest head": Case((row(40, 60), row(100)), latents=33, head_dim=256, heads=(2, 2)),
    "wide head": Case((row(40, 60), row(100)), latents=33, head_dim=200, heads=(2, 2)),
    "grouped heads": Case((row(40, 60), row(100)), latents=33, head_dim=64, heads=(8, 2)),
    "one head of keys, one token": Case((row(1, 1, 1), row(1, before=2)), latents=9, heads=(4, 1)),
    "one token a row": Case((row(1), row(after=1), row(1)), latents=16),
    "one token a row, one head of keys": Case((row(1), row(1)), latents=9, heads=(4, 1)),
    "shared items": Case((row(30, 34), row(20, 44), row(64)), latents=16, item_ids=((2, 0), (0, 2), (2,))),
    "unseen items": Case((row(30, 34), row(20, 44)), latents=16, item_ids=((7, 1), (1, 4)), spare_items=5),
    "rows without items": Case((row(after=40), row(40), row(before=40)), latents=16),
    "next": Case((row(10, 20, before=10), row(before=30, after=10)), latents=16, direction="next"),
    "a scale": Case((row(40, 60), row(100)), latents=33, scale=0.31),
    "a scale of zero": Case((row(40, 60), row(100)), latents=33, scale=0.0),
    "a negative scale": Case((row(40, 60), row(100)), latents=33, scale=-0.2),
}
EMPTY = {
    "no item": Case((row(after=12), row(after=12))),
    "items that nobody sees": Case((row(after=12), row(after=12)), item_ids=((), ()), spare_items=3),
}


def results(backend: str, case: Case, inputs: list[Tensor], layout: MediaLayout | None = None) -> list[Tensor]:
    """Output and the gradients of query, key and value."""
    *leaves, grad = inputs
    leaves = [x.detach().clone().requires_grad_() for x in leaves]
    layout = case.layout() if layout is None else layout
    out = media_attention(*leaves, layout, scale=case.scale, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def is_broken(reason: str) -> bool:
    """Whether what is installed cannot run at all, rather than not this call."""
    return any(sign in reason for sign in BROKEN)


def skip_if_refused(backend: str, case: Case, dtype: torch.dtype, layout: MediaLayout) -> None:
    """Skip with the backend's own reason, which is first seen to be what asking for it says.

    A backend that takes the call and then fails at it is no reason to skip, nor is a package that is installed and
    cannot be imported or runs nothing.
    """
    heads = {"head_dim": case.head_dim, "num_heads": case.heads[0], "num_kv_heads": case.heads[1]}
    reason = available_backends("cuda", dtype, layout=layout, **heads)[backend]
    if reason != "ok":
        with pytest.raises(BackendRefusedError):
            results(backend, case, case.inputs(dtype), layout)
        if is_broken(reason):
            pytest.fail(f"{backend}: {reason}")
        pytest.skip(f"{backend}: {reason}")


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual.dtype == dtype
    assert actual.isfinite().all()
    largest = max(1.0, float(expected.abs().max())) if expected.numel() else 1.0
    torch.testing.assert_close(actual.float(), expected.float(), atol=BOUNDS[dtype] * largest, rtol=0)


@every_backend
@every_dtype
@pytest.mark.parametrize("name", [*CASES, *EMPTY])
def test_backend_is_the_reference(backend, dtype, name):
    """Output and gradients are those of `reference` in float32; tokens that see nothing get exact zeros."""
    case = (CASES | EMPTY)[name]
    layout = case.layout()
    skip_if_refused(backend, case, dtype, layout)
    inputs = case.inputs(dtype)
    ours = results(backend, case, inputs, layout)
    theirs = results("reference", case, [x.float() for x in inputs], layout)
    for actual, expected in zip(ours, theirs, strict=True):
        close(actual, expected, dtype)
    nothing = ~layout.sees_any()
    assert (ours[0][nothing] == 0).all()
    assert (ours[1][nothing] == 0).all()


@pytest.mark.parametrize("backend", BLOCK_DIAGONAL)
@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize(("latents", "head_dim"), [(64, 64), (5, 64), (65, 128), (130, 40), (1, 256), (33, 192)])
@pytest.mark.parametrize("bad_value", [float("nan"), float("inf")])
def test_bad_items_stay_with_those_who_see_them(backend, dtype, latents, head_dim, bad_value):
    """NaN or Inf in an item reaches no token or item beside it, though tiles of a kernel reach over a block's end."""
    case = Case((row(31, 5, 64, before=4), row(1, 2, 100, 1)), latents, head_dim, (2, 2))
    layout = case.layout()
    skip_if_refused(backend, case, dtype, layout)
    inputs = case.inputs(dtype)
    bad = [1, 4]
    good = [item for item in range(case.num_items) if item not in bad]
    seen = torch.where(layout.last >= 0, layout.item_ids.gather(1, layout.last.clamp(min=0)), -1)
    spoilt = torch.isin(seen, torch.tensor(bad, device="cuda"))
    clean = results(backend, case, inputs, layout)
    inputs[1][bad] = inputs[2][bad] = bad_value
    dirty = results(backend, case, inputs, layout)
    assert torch.equal(dirty[0][~spoilt], clean[0][~spoilt])
    close(dirty[1][~spoilt], clean[1][~spoilt], dtype)
    for index in (2, 3):
        close(dirty[index][good], clean[index][good], dtype)
    assert dirty[0][spoilt].isnan().all()


@pytest.mark.parametrize("backend", BLOCK_DIAGONAL)
def test_deterministic_algorithms_repeat_themselves(backend):
    """Where torch is told to be deterministic, two backward passes agree bit for bit, or the backend is refused."""
    case = CASES["many latents"]
    torch.use_deterministic_algorithms(True)
    try:
        skip_if_refused(backend, case, torch.bfloat16, case.layout())
        first, second = (results(backend, case, case.inputs(torch.bfloat16)) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_answer_belongs_to_a_numbered_device():
    """`"cuda"` and its number are one question, so that another current device is asked anew."""
    available_backends(f"cuda:{torch.cuda.current_device()}", torch.bfloat16, head_dim=64)
    known = [module._fails_here.cache_info().currsize for module in (varlen, xformers_backend)]
    available_backends("cuda", torch.bfloat16, head_dim=64)
    assert [module._fails_here.cache_info().currsize for module in (varlen, xformers_backend)] == known


def test_auto_is_block_diagonal_where_it_can_be():
    """In half precision `auto` leaves a layout of one item a token to a block-diagonal kernel, and ranges to `sdpa`."""
    case = CASES["shared items"]
    layout = case.layout()
    found = available_backends("cuda", torch.bfloat16, head_dim=64, layout=layout)
    assert "ok" in [found[name] for name in BLOCK_DIAGONAL], found
    chosen = next(name for name in BLOCK_DIAGONAL if found[name] == "ok")
    inputs = case.inputs(torch.bfloat16)
    assert torch.equal(results("auto", case, inputs)[0], results(chosen, case, inputs)[0])
    ranges = MediaLayout.from_tokens(torch.tensor([[True, True, False]]), scope="all").prepare().to("cuda")
    found = available_backends("cuda", torch.bfloat16, layout=ranges)
    assert found[chosen].startswith("some token sees several items")
    media_attention(*[torch.zeros(n, 3, 1, 8, device="cuda", dtype=torch.bfloat16) for n in (1, 2, 2)], ranges)


@pytest.mark.parametrize("backend", [*BLOCK_DIAGONAL, "auto"])
@pytest.mark.parametrize("name", ["one tile", "heads padded", "grouped heads", "unseen items", "rows without items"])
def test_nothing_waits_for_the_device(backend, name):
    """With a prepared layout neither the forward nor the backward pass reads a value from the device."""
    case = CASES[name]
    layout = case.layout()
    if backend != "auto":
        skip_if_refused(backend, case, torch.bfloat16, layout)
    inputs = case.inputs(torch.bfloat16)
    results(backend, case, inputs, layout)  # the first call of a process builds and loads
    with waits_are_errors():
        results(backend, case, inputs, layout)
        results(backend, case, inputs, layout)


@pytest.mark.parametrize("backend", BLOCK_DIAGONAL)
def test_no_copy_of_the_pool_is_kept_for_the_backward_pass(backend):
    """Between the passes memory grows by the output and its log-sum-exp, not by packed copies."""
    case = Case((row(*[64] * 16), row(*[64] * 16)), heads=(8, 2))
    layout = case.layout()
    skip_if_refused(backend, case, torch.bfloat16, layout)
    *leaves, _ = case.inputs(torch.bfloat16)
    leaves = [x.requires_grad_() for x in leaves]
    media_attention(*leaves, layout, backend=backend)
    before = torch.cuda.memory_allocated()
    out = media_attention(*leaves, layout, backend=backend)
    grown = torch.cuda.memory_allocated() - before
    assert grown <= out.nbytes + 4 * out.shape[:3].numel() + 4096


@pytest.mark.skipif(
    os.environ.get("FLAMINGO_BLOCKS_SHAPE_CHECKS", "1") != "0",
    reason="torch.compile cannot trace checked annotations: set FLAMINGO_BLOCKS_SHAPE_CHECKS=0",
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own, while it loads its compiler
@pytest.mark.parametrize("backend", BLOCK_DIAGONAL)
def test_compiled_is_eager(backend):
    """Compiled by inductor as one graph with unknown sizes, output and gradients are those of eager mode."""
    torch._dynamo.reset()
    whole = torch.compile(
        lambda query, key, value, layout: media_attention(query * 2, key, value, layout, backend=backend) * 2,
        fullgraph=True, dynamic=True,
    )  # fmt: skip
    for name in ("one tile", "odd everything", "grouped heads", "unseen items"):
        case = CASES[name]
        layout = case.layout()
        skip_if_refused(backend, case, torch.bfloat16, layout)
        query, key, value, grad = case.inputs(torch.bfloat16)
        leaves = [x.requires_grad_() for x in (query, key, value)]
        out = whole(*leaves, layout)
        ours = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
        out = media_attention(query.float() * 2, key.float(), value.float(), layout, backend="reference") * 2
        theirs = [out.detach(), *torch.autograd.grad(out, leaves, grad.float())]
        for actual, expected in zip(ours, theirs, strict=True):
            close(actual, expected, torch.bfloat16)
