"""A training step of a whole Flamingo in half precision by each attention backend, rehearsed on the CPU."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from flamingo_blocks.ops import available_backends
from flamingo_blocks.ops.attention.dispatch import BACKENDS
from tests.block_kernels import KERNELS, kernels_on_cpu
from tests.flamingos import EXAMPLE_ROWS, make_batch, make_flamingo
from tests.gpu.test_attention_on_cuda import is_broken
from tests.gpu.waiting import waits_are_errors
from tests.host_reads import NoHostReads


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


def stand_in(kernel, monkeypatch):
    """Let a packed backend run on the CPU, with plain torch in the place of its kernel."""
    name, _, family = kernel.partition("-")
    if not family and name != "varlen":
        return nullcontext()
    monkeypatch.setitem(BACKENDS, name, replace(BACKENDS[name], refuse=lambda _: None))
    return kernels_on_cpu(kernel)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(
    ("device", "kernel"),
    [("cpu", name) for name in ("sdpa", "runs", *KERNELS)]
    + [pytest.param("cuda", name, marks=pytest.mark.gpu) for name in ("sdpa", "runs", "xformers", "varlen")],
)
def test_a_step_is_that_of_the_reference_and_waits_for_nothing(device, kernel, dtype, monkeypatch):
    """Gradients of all trained weights agree with the step whose attention is `reference`."""
    backend = kernel.partition("-")[0]
    expected = gradients("reference", device, dtype)
    with stand_in(kernel, monkeypatch) if device == "cpu" else nullcontext():
        reason = available_backends(device, dtype, head_dim=8)[backend]
        if is_broken(reason):
            pytest.fail(f"{backend}: {reason}")
        if reason != "ok":
            pytest.skip(f"{backend}: {reason}")
        actual = gradients(backend, device, dtype)
    # Of the whole gradient: that of a single gate may be a small rest of large terms.
    largest = max(float(grad.abs().max()) for grad in expected.values())
    bound = {torch.bfloat16: 5e-2, torch.float16: 1e-2}[dtype] * largest
    for name, grad in actual.items():
        assert grad.isfinite().all()
        torch.testing.assert_close(grad, expected[name], atol=bound, rtol=0)
