"""What `compile_regions` changes on a model, and that nothing stays; tests/compile hold what it computes."""

import copy

import pytest
import torch

from flamingo_blocks.lm import checkpoint_layers
from flamingo_blocks.models import build_tiny_flamingo, compile_regions


def fingerprint(flamingo):
    """Keys, and what stands on every module itself."""
    return list(flamingo.state_dict()), [set(vars(module)) for module in flamingo.modules()]


def test_blocks_resampler_and_layers_are_compiled_and_nothing_else():
    """Each region is named, and only those have a `forward` of their own."""
    flamingo = build_tiny_flamingo(depth=3, every=2)
    compiled = compile_regions(flamingo, backend="eager")
    names = [name for name, module in flamingo.named_modules() if "forward" in vars(module)]
    assert sorted(compiled.names) == sorted(names)
    assert compiled.names == ("blocks.0", "blocks.2", "resampler", "lm.layers.0", "lm.layers.1", "lm.layers.2")
    compiled.remove()
    assert compile_regions(flamingo, backend="eager", language_model=False).names == (
        "blocks.0",
        "blocks.2",
        "resampler",
    )


def test_no_key_is_renamed_and_nothing_stays():
    """While compiled the keys are the same; afterwards every module is as it was, after an error too."""
    flamingo = build_tiny_flamingo()
    before = fingerprint(flamingo)
    compiled = compile_regions(flamingo, backend="eager")
    assert list(flamingo.state_dict()) == before[0]
    compiled.remove()
    compiled.remove()
    assert fingerprint(flamingo) == before
    with pytest.raises(ZeroDivisionError), compile_regions(flamingo, backend="eager"):
        raise ZeroDivisionError
    assert fingerprint(flamingo) == before


def test_a_block_that_stands_in_two_places_is_compiled_once():
    """Shared modules have one `forward`, which is given back once."""
    flamingo = build_tiny_flamingo()
    flamingo.blocks["1"] = flamingo.blocks["0"]
    before = fingerprint(flamingo)
    compiled = compile_regions(flamingo, backend="eager")
    assert compiled.names[:2] == ("blocks.0", "resampler")
    compiled.remove()
    assert fingerprint(flamingo) == before


def test_compiling_twice_is_refused():
    """The second call names the region and the way out, and changes nothing."""
    flamingo = build_tiny_flamingo()
    message = r"'blocks.0' is compiled already; call remove\(\)"
    with compile_regions(flamingo, backend="eager"), pytest.raises(ValueError, match=message):
        compile_regions(flamingo, backend="eager")
    assert not any("forward" in vars(module) for module in flamingo.modules())


def test_changes_are_undone_in_reverse_order():
    """What replaced a forward later must go first; a slip in the order is told and changes nothing."""
    flamingo = build_tiny_flamingo()
    before = fingerprint(flamingo)
    checkpointed = checkpoint_layers(flamingo.lm)
    compiled = compile_regions(flamingo, backend="eager")
    with pytest.raises(RuntimeError, match="replaced after checkpoint_layers"):
        checkpointed.remove()
    compiled.remove()
    checkpointed.remove()
    compiled = compile_regions(flamingo, backend="eager")
    checkpointed = checkpoint_layers(flamingo.lm)
    with pytest.raises(RuntimeError, match=r"'lm.layers.0' was replaced after compile_regions"):
        compiled.remove()
    checkpointed.remove()
    compiled.remove()
    assert fingerprint(flamingo) == before


def test_a_copy_runs_its_own_weights():
    """A deep copy of a compiled model is a compiled model of its own."""
    flamingo = build_tiny_flamingo()
    compile_regions(flamingo, backend="eager")
    copied = copy.deepcopy(flamingo)
    assert copied.lm.layers[0].forward is not flamingo.lm.layers[0].forward
    with torch.compiler.set_stance("force_eager"), torch.no_grad():
        vision = torch.randn(1, 1, 4, 16, generator=torch.Generator().manual_seed(0))
        expected = flamingo.resampler(vision)
        for weight in flamingo.resampler.parameters():
            weight.zero_()
        torch.testing.assert_close(copied.resampler(vision), expected)
