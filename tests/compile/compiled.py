"""What the tests of compiled code share: layouts of a given number of items, and eager beside compiled."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from flamingo_blocks.nn import GatedCrossAttentionBlock
from flamingo_blocks.ops import MediaLayout

# No two of them equal, nor equal to a number of items or tokens: the compiler takes equal sizes for one size.
DIM, VISION_DIM, LATENTS = 28, 14, 11
BOUND = 1e-5


def compile_whole(function: Callable[..., Any], *, backend: str = "aot_eager", **options: Any) -> Callable[..., Any]:
    """One graph without breaks for any sizes."""
    return torch.compile(function, fullgraph=True, dynamic=True, backend=backend, **options)


def place(items: int, text: int, **options: Any) -> MediaLayout:
    """Two rows of text, the items shared out between them, the first token before all items."""
    is_media = torch.zeros(2, text, dtype=torch.bool)
    for row, number in enumerate(((items + 1) // 2, items // 2)):
        is_media[row, 1 : 1 + 2 * number : 2] = True
    return MediaLayout.from_tokens(is_media, **options)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@torch.no_grad()
def draw(module: nn.Module, seed: int = 0) -> Any:
    """All weights from a seed, gates and norms among them, so that every path counts."""
    for number, weight in enumerate(module.parameters()):
        drawn = noise(*weight.shape, seed=seed + number)
        weight.copy_(drawn * weight.shape[-1] ** -0.5 if weight.ndim > 1 else 0.5 + 0.3 * drawn)
    return module


def make_block(seed: int = 0, **options: Any) -> GatedCrossAttentionBlock:
    arguments: dict[str, Any] = {"vision_dim": VISION_DIM, "num_heads": 2, "head_dim": 10, "ff_mult": 2.0}
    return draw(GatedCrossAttentionBlock(DIM, **(arguments | options)), seed)


def results(function: Callable[..., Any], inputs: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Output, and the gradients of inputs and weights; zeros where there is none."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*inputs)
    wanted = [*inputs, *weights]
    grads = torch.autograd.grad(out.sin().sum(), wanted, allow_unused=True)
    return [out, *(torch.zeros_like(x) if grad is None else grad for x, grad in zip(wanted, grads, strict=True))]


def assert_compiled_is_eager(
    eager: Callable[..., Any], compiled: Callable[..., Any], inputs: Sequence[Tensor], weights: Sequence[Tensor] = ()
) -> None:
    """Output and all gradients agree to 1e-5."""
    pairs = zip(results(compiled, inputs, weights), results(eager, inputs, weights), strict=True)
    for actual, expected in pairs:
        torch.testing.assert_close(actual, expected, atol=BOUND, rtol=BOUND)
