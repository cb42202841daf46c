"""What the tests on a GPU stand on, where no GPU is."""

import inspect
import re
import warnings

import pytest
import torch

from tests.block_kernels import fmha_or_skip
from tests.gpu.test_attention_on_cuda import is_broken
from tests.gpu.waiting import waits_are_errors
from tests.said_to_the_compiler import SAID_TO_THE_COMPILER


@pytest.fixture
def mode(monkeypatch):
    """Torch's debug mode without a device: it is set, and only then comes the warning."""
    modes = [0]

    def set_mode(mode):
        modes.append(mode)
        warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=2)

    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", set_mode)
    return modes


def test_the_mode_is_set_in_spite_of_its_warning_and_ends_with_an_error(mode):
    """Torch's word on its prototype is no error, other warnings are, and the mode is what it was before."""
    with pytest.raises(RuntimeWarning, match="mode is error"), waits_are_errors():
        warnings.warn(f"mode is {mode[-1]}", RuntimeWarning, stacklevel=1)
    assert mode == [0, "error", 0]


def test_a_mode_that_fails_half_way_is_taken_back(mode, monkeypatch):
    """Whatever else torch warns of while it sets the mode, it does not stay on."""
    quiet = torch.cuda.set_sync_debug_mode

    def loud(given):
        quiet(given)
        if given == "error":
            warnings.warn("something new", RuntimeWarning, stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", loud)
    with pytest.raises(RuntimeWarning, match="something new"), waits_are_errors():
        pass
    assert mode == [0, "error", 0]


def test_what_the_compiler_says_of_itself_is_no_error():
    """The filters of the compiled tests hold in this folder too: flex brings the compiler in."""
    assert len(SAID_TO_THE_COMPILER) == 3
    warnings.warn("`torch.jit.script_method` is deprecated. Please switch", DeprecationWarning, stacklevel=1)


def test_xformers_built_without_the_cuda_of_torch_is_broken():
    """In the words of its operators, each of which then refuses: its tests fail, where all of them would skip."""
    operator = fmha_or_skip().common.AttentionOpBase
    words = re.search(r'"(xFormers wasn.t .*CUDA.*)"', inspect.getsource(operator.not_supported_reasons))[1]
    assert is_broken(f"flash: operator wasn't built; cutlass: {words}")
    assert is_broken("a call on one token fails here: no kernel image is available")
    assert not is_broken(
        "flash: requires device with capability >= (8, 0) but your GPU has capability (7, 5) (too old)"
    )
