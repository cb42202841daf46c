"""Blocks and a whole small Flamingo on CUDA, against the same on the CPU in float64."""

import copy

import pytest
import torch
from torch import Tensor, nn

from flamingo_blocks import GatedCrossAttentionBlock, MediaLayout, PerceiverResampler
from tests.flamingos import TAG, TEXT, make_batch, make_flamingo
from tests.gpu.waiting import waits_are_errors

pytestmark = pytest.mark.gpu

# Of the largest number compared, through several layers; convolutions in float32 keep 10 bits of a product on CUDA.
# The gradient of a gate is one sum over all tokens and features, whose terms have either sign.
BOUNDS = {torch.float32: 2e-3, torch.float16: 4e-2, torch.bfloat16: 2e-1}
ROWS = ((TEXT, TAG, TEXT, TEXT, TAG, TEXT), (TAG, TEXT, TEXT, TEXT, TEXT, TEXT), (TEXT,) * 6)
every_dtype = pytest.mark.parametrize("dtype", BOUNDS, ids=str)


def close(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert actual.isfinite().all()
    bound = BOUNDS[dtype] * float(expected.abs().max()) + 1e-6
    torch.testing.assert_close(actual.cpu().double(), expected.double(), atol=bound, rtol=0)


def passes(module: nn.Module, grad: Tensor, *inputs: Tensor, **options) -> list[Tensor]:
    """Output, and the gradients of inputs and parameters."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = module(*leaves, **options)
    wanted = [*leaves, *module.parameters()]
    return [out.detach(), *torch.autograd.grad(out, wanted, grad, allow_unused=True, materialize_grads=True)]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block_and_inputs(**options) -> tuple[nn.Module, MediaLayout, list[Tensor]]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        block = GatedCrossAttentionBlock(64, vision_dim=48, num_heads=4, **options).double()
    with torch.no_grad():
        for gate in (block.attention_gate.gate, block.feed_forward_gate.gate):
            gate.fill_(0.5)
    tags = torch.rand(3, 50, generator=torch.Generator().manual_seed(1)) < 0.15
    tags[1] = False
    layout = MediaLayout.from_tokens(tags).prepare()
    items = int(tags.sum())
    return block, layout, [drawn(3, 50, 64, seed=2), drawn(items, 9, 48, seed=3), drawn(3, 50, 64, seed=4)]


@every_dtype
@pytest.mark.parametrize("options", [{}, {"num_kv_heads": 2, "head_dim": 20}, {"qk_norm": "rms_norm"}], ids=str)
def test_a_block_is_the_same_on_cuda(dtype, options):
    """A gated block gives output and gradients of the CPU in float64, those of its weights included."""
    block, layout, (text, media, grad) = block_and_inputs(**options)
    block.to(dtype)
    exact = copy.deepcopy(block).double()
    text, media, grad = (x.to(dtype) for x in (text, media, grad))
    expected = passes(exact, grad.double(), text.double(), media.double(), layout=layout)
    layout = layout.to("cuda")
    actual = passes(block.cuda(), grad.cuda(), text.cuda(), media.cuda(), layout=layout)
    for ours, theirs in zip(actual, expected, strict=True):
        close(ours, theirs, dtype)


@every_dtype
def test_a_resampler_is_the_same_on_cuda(dtype):
    """A resampler gives output and gradients of the CPU in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        resampler = PerceiverResampler(vision_dim=48, dim=48, num_latents=7, depth=2, num_heads=2).to(dtype)
    exact = copy.deepcopy(resampler).double()
    frames, grad = drawn(3, 2, 33, 48, seed=1).to(dtype), drawn(3, 7, 48, seed=2).to(dtype)
    expected = passes(exact, grad.double(), frames.double())
    actual = passes(resampler.cuda(), grad.cuda(), frames.cuda())
    for ours, theirs in zip(actual, expected, strict=True):
        close(ours, theirs, dtype)


def test_a_block_waits_for_nothing():
    """With a prepared layout a block's two passes read no value from the device."""
    block, layout, inputs = block_and_inputs()
    block.to("cuda", torch.bfloat16)
    text, media, grad = (x.to("cuda", torch.bfloat16) for x in inputs)
    layout = layout.to("cuda")
    passes(block, grad, text, media, layout=layout)  # the first call of a process builds and loads
    with waits_are_errors():
        passes(block, grad, text, media, layout=layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_flamingo_is_the_same_on_cuda(dtype):
    """Logits and the gradients of a small Flamingo, tower, resampler and token rows included, are those of the CPU."""
    flamingo = make_flamingo("plain")
    flamingo.to(dtype)
    exact = copy.deepcopy(flamingo).double()
    batch = make_batch(ROWS, seed=0).arguments()
    logits, gradients = [], []
    for model, device, kind in ((exact, "cpu", torch.float64), (flamingo.cuda(), "cuda", dtype)):
        arguments = {
            name: value.to(device, kind if value.is_floating_point() else value.dtype) for name, value in batch.items()
        }
        out = model(**arguments).logits
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        out.double().sin().mean().backward()
        logits.append(out.detach())
        gradients.append([weight.grad for weight in trained])
    close(logits[1], logits[0], dtype)
    for ours, theirs in zip(reversed(gradients[1]), reversed(gradients[0]), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            close(ours, theirs, dtype)
