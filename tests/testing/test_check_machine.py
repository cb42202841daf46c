"""The check of a machine finds what is broken there."""

from dataclasses import replace

import pytest
import torch

from flamingo_blocks.nn import TanhGate
from flamingo_blocks.ops.attention import dispatch
from flamingo_blocks.testing import check_machine


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float64))
def test_the_laws_hold_here(dtype):
    """On the CPU, in each dtype, for each backend that runs."""
    found = check_machine(dtype=dtype)
    assert found.ok, found.laws
    running = [name for name, told in found.backends.items() if told == "ok"]
    assert {"reference", "sdpa", "runs"} <= set(running)
    assert len(found.laws) == 1 + 3 * len(running)


def test_numbers_of_the_caller_stay():
    """No random number of the caller is drawn."""
    torch.manual_seed(3)
    before = torch.get_rng_state()
    check_machine()
    assert torch.equal(torch.get_rng_state(), before)


def mean_of_all(query, key, value, layout, valid, scale):
    """An attention without a mask, as a broken kernel would have it."""
    return value.flatten(0, 1).mean(0).expand_as(query) + 0 * query


def nothing(query, key, value, layout, valid, scale):
    """An attention that gives zeros."""
    return 0 * (query + key.sum() + value.sum())


def raises(*_):
    """An attention without a kernel for this GPU."""
    raise RuntimeError("no kernel image is available\nfor execution")


@pytest.mark.parametrize(
    ("broken", "law", "said"),
    (
        (mean_of_all, "nothing seen, nothing changed: sdpa", "an update or gradient of"),
        (mean_of_all, "what is not seen does not reach: sdpa", "item 0 moves tokens that do not see it"),
        (nothing, "what is seen does: sdpa", "reaches items"),
        (raises, "nothing seen, nothing changed: sdpa", "RuntimeError: no kernel image is available"),
    ),
)
def test_a_broken_backend_is_found(monkeypatch, broken, law, said):
    """Each law fails for what breaks it, and the other backends hold."""
    backend = dispatch.BACKENDS["sdpa"]
    monkeypatch.setitem(dispatch.BACKENDS, "sdpa", replace(backend, attend=broken))
    found = check_machine()
    assert not found.ok
    assert said in found.laws[law]
    assert all(told == "ok" for name, told in found.laws.items() if not name.endswith("sdpa"))


def test_gates_that_leak_are_found(monkeypatch):
    """A gate that lets a little through is seen in the logits."""
    monkeypatch.setattr(TanhGate, "forward", lambda _, update: 0.01 * update)
    assert "logits move by" in check_machine().laws["closed gates change nothing"]


def test_a_device_that_is_not_here_is_refused():
    """Torch says it in its own words."""
    with pytest.raises((RuntimeError, AssertionError)):
        check_machine("cuda:99" if torch.cuda.is_available() else "cuda")
