"""`inspect_checkpoint` compares shapes too: what it passes is what can be loaded."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import export_foreign, inspect_checkpoint, load_foreign
from flamingo_blocks.interop.example import tiny_open_flamingo
from tests.interop.foreign_models import foreign_cases
from tests.interop.test_commands import run
from tests.interop.test_there_and_back import LAYOUT
from tests.language_models import make_language_model
from tests.strategies import heavy


def grown(tensor, axis):
    """One more along an axis; an axis more where there is none."""
    return torch.cat([tensor, tensor.narrow(axis, 0, 1)], axis) if tensor.ndim else tensor[None].repeat(2)


@heavy()
@given(foreign_cases(), st.data())
def test_a_tensor_of_another_shape_is_refused_as_by_loading(case, data):
    """Of every family, whichever tensor it is, of the tower and the language model too: nothing is passed that loading
    refuses, and what fits is passed.
    """
    checkpoint = export_foreign(case.build(), family=case.family, **LAYOUT.get(case.family, {}))
    more = {"vision": case.tower(), **case.options}

    def passes(tensors):
        found = inspect_checkpoint(tensors, lm=case.language_model().to("meta"), family=case.family, **more)
        return found.error is None and not (found.missing or found.unknown or found.misshapen)

    def loads(tensors):
        try:
            load_foreign(tensors, lm=case.language_model(), family=case.family, **more)
        except (CheckpointError, ValueError):
            return False
        return True

    assert passes(checkpoint) and loads(checkpoint)
    name = data.draw(st.sampled_from(sorted(checkpoint)))
    tensor = checkpoint[name]
    odd = checkpoint | {name: grown(tensor, data.draw(st.integers(0, max(tensor.ndim - 1, 0))))}
    assert passes(odd) == loads(odd)


def test_both_shapes_are_said():
    """With a language model and without one, by the name in the checkpoint."""
    checkpoint = tiny_open_flamingo() | {"perceiver.norm.weight": torch.zeros(17)}
    found = inspect_checkpoint(checkpoint)
    assert (found.error, found.missing, found.unknown) == (None, [], [])
    assert found.misshapen == ["perceiver.norm.weight: shape (17,), wanted (8,)"]


@pytest.mark.parametrize("table", [True, False], ids=["with the table", "without"])
def test_a_language_model_of_another_width_is_an_error(tmp_path, capsys, table):
    """`inspect` says what `convert` says, whether or not the checkpoint holds a tensor of the language model."""
    from transformers import OPTConfig, OPTForCausalLM

    lm = make_language_model("opt")
    checkpoint = {n: t for n, t in tiny_open_flamingo(lm=lm).items() if table or ".layers." in n or "perc" in n}
    torch.save(checkpoint, tmp_path / "theirs.pt")
    OPTForCausalLM(
        OPTConfig(
            vocab_size=50, hidden_size=48, word_embed_proj_dim=48, ffn_dim=16, num_hidden_layers=2,
            num_attention_heads=2,
        )
    ).save_pretrained(tmp_path / "wide")  # fmt: skip
    words = [tmp_path / "theirs.pt", "--lm", tmp_path / "wide"]
    status, out, error = run(capsys, "inspect", *words)
    assert (status, "missing: not compared" in out) == (1, True)
    assert "does not fit what it is loaded around: lm gives width 48, the block before layer 1 wants dim 32" in error
    told = [] if table else ["--media-token-id", "5"]
    assert run(capsys, "convert", *words, *told, "--out", tmp_path / "ours")[::2] == (1, error)


def test_the_command_counts_other_shapes(tmp_path, capsys):
    """Tensors whose shape is another are listed, with status 1."""
    torch.save(tiny_open_flamingo() | {"perceiver.norm.weight": torch.zeros(17)}, tmp_path / "theirs.pt")
    status, out, error = run(capsys, "inspect", tmp_path / "theirs.pt")
    assert (status, "of another shape: 1\n  perceiver.norm.weight: shape (17,), wanted (8,)" in out) == (1, True)
    assert error.endswith("cannot be loaded as it is; names missing: 0, unknown: 0, of another shape: 1")
