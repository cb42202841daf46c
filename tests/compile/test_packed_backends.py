"""Block-diagonal backends inside compiled code: whole graphs, sizes unknown, with a stand-in for the kernel alone."""

import pytest
import torch

from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.ops.attention import _packed, reference, varlen, xformers_backend
from flamingo_blocks.ops.attention.backend import Request
from tests.block_kernels import KERNELS, kernels_on_cpu
from tests.compile.compiled import BOUND, compile_whole

HEADS, KV_HEADS = 14, 7  # no two sizes of the first batch are equal: the compiler would take them for one


def drawn(tags: list[list[int]], *, items: int, latents: int, head_dim: int):
    noise = torch.Generator().manual_seed(len(tags[0]))
    prepared = MediaLayout.from_tokens(torch.tensor(tags).bool()).prepare()
    shapes = [(len(tags), len(tags[0]), HEADS, head_dim), *[(items, latents, KV_HEADS, head_dim)] * 2]
    return prepared, [torch.randn(shape, generator=noise).requires_grad_() for shape in shapes]


def results(function, layout, inputs):
    out = function(*inputs, layout)
    return [out, *torch.autograd.grad(out.sin().sum(), inputs)]


BATCHES = [  # in the first and the third some items are seen by nobody
    ([[0, 1, 0, 1, 0, 0, 0, 1, 0], [0, 0, 1, 0, 0, 0, 0, 0, 0]], {"items": 10, "latents": 11, "head_dim": 8}),
    ([[1, 0, 0, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 1, 0]], {"items": 6, "latents": 3, "head_dim": 8}),
    ([[0, 0, 1, 0, 0, 1], [1, 0, 0, 0, 1, 0], [1, 1, 0, 0, 0, 0]], {"items": 8, "latents": 5, "head_dim": 24}),
    ([[0, 0, 1, 0, 0], [1, 0, 0, 0, 1]], {"items": 3, "latents": 6, "head_dim": 3}),
    ([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], {"items": 0, "latents": 6, "head_dim": 8}),
]


@pytest.mark.parametrize("kernel", KERNELS)
def test_compiled_is_eager(kernel, num_graphs):
    """One whole graph gives output and gradients of `reference` for batch after batch, whatever their lengths."""
    with kernels_on_cpu(kernel) as attend:
        whole = compile_whole(lambda query, key, value, layout: attend(query * 2, key, value, layout, None, 0.3))
        for tags, sizes in BATCHES:
            prepared, inputs = drawn(tags, **sizes)
            ours = results(whole, prepared, inputs)
            theirs = results(lambda q, k, v, layout: reference.attend(q * 2, k, v, layout, None, 0.3), prepared, inputs)
            for actual, expected in zip(ours, theirs, strict=True):
                torch.testing.assert_close(actual, expected, atol=BOUND, rtol=BOUND)
    assert (
        num_graphs() == 2
    )  # the second one is that of the last batch: the compiler never leaves open that a size is 0


def test_a_refusal_is_a_constant_of_the_graph(monkeypatch):
    """Compiled code takes the answer about a device without looking at how it is found, even where a kernel is run."""
    asked = []

    def here(device, dtype, head_dim, requires_grad=True):
        asked.append(head_dim)
        with kernels_on_cpu("varlen"):
            return _packed.fails(varlen.KERNEL, torch.device("cpu"), torch.float32, head_dim) or "it ran"

    def reasons(x):
        request = Request(torch.device("cuda", 0), torch.bfloat16, x.shape[-1], 4, 4, requires_grad=True, layout=None)
        return x + 1, varlen.refuse(request), xformers_backend.refuse(request)

    here.__dict__.update(varlen._refused_here.__dict__)
    assert here.__dict__["_dynamo_marked_constant"]
    monkeypatch.setattr(varlen, "_refused_here", here)
    monkeypatch.setattr(xformers_backend, "_refused_here", here)
    compiled = compile_whole(reasons)
    assert compiled(torch.zeros(3, 20))[1:] == ("it ran", "it ran")
    assert compiled(torch.zeros(3, 30))[1:] == ("it ran", "it ran")
    assert compiled(torch.zeros(3, 31))[1:] == ("it ran", "it ran")
    # varlen's kernel and xformers' own width, once for each of the two graphs: 31 is as wide as 30 to both
    assert asked == [32, 24, 32, 32]
