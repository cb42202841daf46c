"""The flex backend's compiled kernel on CUDA, asked directly."""

import pytest
import torch

from flamingo_blocks.ops import MediaLayout
from flamingo_blocks.ops.attention import flex, reference
from tests.strategies import tensor

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("heads", [(2, 2), (4, 2), (3, 1)], ids=str)
def test_flex_on_a_gpu_is_the_reference_in_value_and_gradient(dtype, heads):
    """The compiled kernel agrees with `reference` for many shapes, masked or not, and blind tokens stay exact."""
    noise = torch.Generator().manual_seed(0)
    bound = 2e-2 if dtype == torch.bfloat16 else 5e-3
    for rows, text, every, scope in [(2, 130, 40, "last"), (2, 300, 40, "all"), (1, 64, 20, "all"), (3, 1, 1, "last")]:
        is_media = torch.zeros(rows, text, dtype=torch.bool)
        is_media[:, every // 2 :: every] = True
        layout = MediaLayout.from_tokens(is_media, scope=scope).to("cuda")
        query = tensor(noise, rows, text, heads[0], 16, dtype=dtype).cuda().requires_grad_()
        media = [
            tensor(noise, int(is_media.sum()), 64, heads[1], 16, dtype=dtype).cuda().requires_grad_() for _ in "kv"
        ]
        for valid in (None, (torch.rand(int(is_media.sum()), 64, generator=noise) < 0.5).cuda()):
            outs = [backend.attend(query, *media, layout, valid, 0.25) for backend in (flex.BACKEND, reference.BACKEND)]
            cotangent = torch.randn_like(query)
            grads = [torch.autograd.grad(out, [query, *media], cotangent) for out in outs]
            for ours, theirs in zip([outs[0], *grads[0]], [outs[1], *grads[1]], strict=True):
                torch.testing.assert_close(ours, theirs, atol=bound * max(1.0, float(theirs.abs().max())), rtol=bound)
            blind = ~layout.sees_any()
            assert (outs[0][blind] == 0).all()
            assert (grads[0][0][blind] == 0).all()
