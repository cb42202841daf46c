"""A whole block, layer or table that is lost: told by what is left, or by what the caller says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import export_foreign, load_foreign
from tests.interop.foreign_models import ForeignCase, foreign_cases
from tests.strategies import heavy

RESAMPLERS = {
    "open_flamingo": "perceiver.layers.", "otter": "perceiver.layers.",
    "flamingo_mini": "flamingo.resampler.layers.", "flamingo_pytorch": "perceiver_resampler.layers.",
}  # fmt: skip


def without(checkpoint, part):
    return {name: tensor for name, tensor in checkpoint.items() if part not in name}


@heavy()
@given(foreign_cases(), st.data())
def test_a_whole_layer_of_the_resampler_is_missed(case, data):
    """Of every family, whichever layer is lost: by its number, or by the depth that is told; nothing changes."""
    checkpoint = export_foreign(case.build(), family=case.family)
    lost = data.draw(st.integers(0, case.resampler_depth - 1))
    prefix = f"{RESAMPLERS[case.family]}{lost}."
    rest = {name: tensor for name, tensor in checkpoint.items() if not name.startswith(prefix)}
    assert len(rest) == len(checkpoint) - (12 if case.family == "flamingo_mini" else 11)
    ours = case.language_model(case.seed + 7)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    wanted = f"has {case.resampler_depth - 1} layers of the resampler .* wanted resampler_depth={case.resampler_depth}"
    parts = {"lm": ours, "vision": case.tower(), "resampler_depth": case.resampler_depth, **case.options}
    with pytest.raises(CheckpointError, match=wanted):
        load_foreign(rest, family=case.family, **parts)
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    assert len(load_foreign(checkpoint, family=case.family, **parts).resampler.layers) == case.resampler_depth


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("flamingo_mini", "flamingo.resampler.time_pos_emb"),
        ("flamingo_pytorch", "perceiver_resampler.media_pos_emb"),
    ],
)
def test_what_every_model_of_a_family_has_is_missed(family, name):
    """flamingo-mini always embeds frames, flamingo-pytorch always places media: without it the file is not whole."""
    case = ForeignCase(family, 2, 1, 2, 1, frames=int(family == "flamingo_mini"), new_rows=False, seed=2)
    checkpoint = export_foreign(case.build(), family=family)
    parts = {"lm": case.language_model(3), "vision": case.tower(), **case.options}
    with pytest.raises(CheckpointError, match=rf"lacks .*{name}"):
        load_foreign(without(checkpoint, name), **parts)


@pytest.mark.parametrize(("depth", "every", "lost"), [(4, 2, 2), (4, 1, 0), (3, 1, 2), (4, 3, 0)])
def test_flamingo_mini_tells_by_its_layers_which_block_is_lost(depth, every, lost):
    """A layer that had a block is called `lm_block`: without its block the rest is no model with fewer."""
    case = ForeignCase("flamingo_mini", depth, every, 2, 1, frames=1, new_rows=False, seed=2)
    checkpoint = export_foreign(case.build(), family="flamingo_mini")
    parts = {"lm": case.language_model(3), "vision": case.tower(), **case.options}
    with pytest.raises(CheckpointError, match=rf"has wrapped layers .* blocks for .*, but lacks those for \[{lost}\]"):
        load_foreign(without(checkpoint, f"flamingo.lm.h.{lost}.xattn_block."), **parts)
    bare = {name.replace(f"h.{lost}.lm_block.", f"h.{lost}."): tensor for name, tensor in checkpoint.items()}
    with pytest.raises(CheckpointError, match=rf"has blocks for layers \[{lost}\], whose layers are not wrapped"):
        load_foreign(bare, **parts)
    left = {"leave_out": (f"flamingo.lm.h.{lost}.lm_block.",)}
    assert str(lost) in load_foreign(checkpoint, **parts, **left).blocks


def test_a_lost_first_block_is_told_by_the_distance_alone():
    """Of blocks before layers 1 and 3 the first is lost: no name tells it, and `every` does."""
    case = ForeignCase("open_flamingo", 4, 2, 2, 1, frames=0, new_rows=True, seed=2)
    rest = without(export_foreign(case.build(), family="open_flamingo"), "layers.1.gated")
    assert list(load_foreign(rest, lm=case.language_model(3)).blocks) == ["3"]
    with pytest.raises(CheckpointError, match=r"blocks for layers \[3\], but lacks those for \[1\]"):
        load_foreign(rest, lm=case.language_model(3), every=2)


def test_the_distance_of_flamingo_pytorch_can_be_demanded():
    """Of two blocks the last one is lost: the rest could be a model with one; `every` tells that it is not."""
    case = ForeignCase("flamingo_pytorch", 4, 3, 2, 1, frames=0, new_rows=False, seed=2)
    rest = without(export_foreign(case.build(), family="flamingo_pytorch"), "layers.3.1.")
    parts = {"vision": case.tower(), **case.options}
    assert list(load_foreign(rest, lm=case.language_model(3), **parts).blocks) == ["1"]
    with pytest.raises(CheckpointError, match=r"blocks for layers \[0\], but lacks those for \[3\]"):
        load_foreign(rest, lm=case.language_model(3), every=3, **parts)
