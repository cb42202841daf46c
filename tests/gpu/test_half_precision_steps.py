"""A training step of a whole Flamingo in half precision by each attention backend, rehearsed on the CPU."""

from contextlib import nullcontext

import pytest
import torch

from flamingo_blocks.ops import available_backends
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.gpu.test_attention_on_cuda import is_broken
from tests.gpu.waiting import waits_are_errors
from tests.host_reads import NoHostReads

on_both = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def gradients(backend, device, dtype):
    """Of all trained weights by name, from a second step that must wait for nothing, except in the reference."""
    flamingo, batch = make_flamingo("paper").to(device, dtype), make_batch(EXAMPLE_ROWS, 0)
    for block in flamingo.blocks.values():
        block.attention.backend = backend
    given = batch.arguments()
    layout = flamingo.make_layout(batch.input_ids, attention_mask=given["attention_mask"]).prepare()
    pixels = given.pop("pixels").flatten(0, 1).nan_to_num().to(device, dtype)
    features = flamingo.vision(pixels).tokens.unflatten(0, (3, -1))
    given = {name: value.to(device) for name, value in given.items()}
    given |= {"features": features, "layout": layout.to(device), "labels": batch.input_ids.to(device)}
    flamingo(**given).loss.backward()
    flamingo.zero_grad()
    guard = waits_are_errors() if device == "cuda" else NoHostReads()
    with nullcontext() if backend == "reference" else guard:
        flamingo(**given).loss.backward()
    return {name: weight.grad for name, weight in flamingo.trained_parameters().items()}


@on_both
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", ["sdpa", "runs", "xformers", "varlen"])
def test_a_step_is_that_of_the_reference_and_waits_for_nothing(backend, dtype, device):
    """Gradients of all trained weights agree with the step whose attention is `reference`."""
    reason = available_backends(device, dtype, head_dim=64)[backend]
    if is_broken(reason):
        pytest.fail(f"{backend}: {reason}")
    if reason != "ok":
        pytest.skip(f"{backend}: {reason}")
    expected, actual = gradients("reference", device, dtype), gradients(backend, device, dtype)
    # Of the whole gradient: that of a single gate may be a small rest of large terms.
    largest = max(float(grad.abs().max()) for grad in expected.values())
    bound = {torch.bfloat16: 5e-2, torch.float16: 1e-2}[dtype] * largest
    for name, grad in actual.items():
        assert grad.isfinite().all()
        torch.testing.assert_close(grad, expected[name], atol=bound, rtol=0)
