"""Weights of the language model and of the tower: all of them or none, and never into what cannot hold them."""

import re
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import (
    ForeignCheckpoint,
    export_foreign,
    find_family,
    idefics_parts,
    load_foreign,
    mllama_parts,
    open_checkpoint,
)
from tests.interop.foreign_models import FAMILIES, ForeignCase, foreign_cases, write_shards
from tests.interop.transformers_peers import idefics_config, tiny_idefics, tiny_mllama
from tests.memory import PeakBytes
from tests.strategies import heavy

CASE = ForeignCase("open_flamingo", depth=3, every=1, latents=2, resampler_depth=1, frames=0, new_rows=True, seed=1)
WHOLE = {"open_flamingo": {"layout": "live"}, "otter": {"layout": "live"}}
OPTIONAL = ("frame_embs", "video_frame_pos_emb")  # a model may be without


def live(case=CASE):
    return export_foreign(case.build(), family=case.family, **WHOLE.get(case.family, {}))


def load(checkpoint, case=CASE, **options):
    parts = {"lm": case.language_model(case.seed + 7), "vision": case.tower(), **case.options, **options}
    return load_foreign(checkpoint, family=case.family, **parts)


def lose_one(checkpoint, data):
    """One tensor goes, under all its names."""
    victim = data.draw(st.sampled_from(sorted(name for name in checkpoint if not name.endswith(OPTIONAL))))
    lost = {name for name, tensor in checkpoint.items() if tensor.data_ptr() == checkpoint[victim].data_ptr()}
    return lost, {name: tensor for name, tensor in checkpoint.items() if name not in lost}


@heavy()
@given(foreign_cases(), st.data())
def test_any_tensor_of_a_whole_checkpoint_is_missed(case, data):
    """Of a live state dict, whichever tensor is lost, trained or frozen: the error names it, nothing is changed."""
    lost, rest = lose_one(live(case), data)
    ours = case.language_model(case.seed + 7)
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load(rest, case, lm=ours)
    assert any(name in str(error.value) for name in lost)
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())


@pytest.mark.parametrize("family", FAMILIES)
def test_any_tensor_of_the_smallest_checkpoint_is_missed(family):
    """Of one block and one layer each trained tensor, lost, is named: no family is known by one name alone."""
    case = ForeignCase(family, 1, 1, 1, 1, frames=int(family == "flamingo_mini"), new_rows=False, seed=0)
    checkpoint = export_foreign(case.build(), family=family)
    lm, tower = case.language_model(), case.tower()
    for lost in (name for name in checkpoint if "gated" in name or "layers.0.1." in name or "resampler" in name):
        rest = {name: tensor for name, tensor in checkpoint.items() if name != lost}
        with pytest.raises(CheckpointError, match=f"lacks .*{re.escape(lost)}"):
            load_foreign(rest, lm=lm, vision=tower, **case.options)


@cache
def peer(family):
    model, parts = {"idefics": (tiny_idefics, idefics_parts), "mllama": (tiny_mllama, mllama_parts)}[family]
    found = model()
    return found.state_dict(), parts(found.config)


@pytest.mark.parametrize("family", ["idefics", "mllama"])
@heavy()
@given(data=st.data())
def test_any_tensor_of_transformers_is_missed(family, data):
    """The same of IDEFICS and Mllama, whose checkpoints hold everything."""
    checkpoint, parts = peer(family)
    lost, rest = lose_one(checkpoint, data)
    with pytest.raises(CheckpointError) as error:
        load_foreign(rest, family=family, **parts)
    assert any(name in str(error.value) for name in lost)


@pytest.mark.parametrize(
    ("family", "part"),
    [
        ("idefics", "model.vision_model."),
        ("mllama", "model.vision_model."),
        ("mllama", "model.multi_modal_projector."),
    ],
)
def test_a_whole_part_of_transformers_is_missed(family, part):
    """With a tower given its weights are wanted, and for Mllama those of the projector behind it."""
    checkpoint, parts = peer(family)
    rest = {name: tensor for name, tensor in checkpoint.items() if not name.startswith(part)}
    with pytest.raises(CheckpointError, match=f"lacks.*{part}"):
        load_foreign(rest, **parts)


@pytest.mark.parametrize(("lost", "left"), [("", 0), ("blocks.0.", 1), ("blocks.1.", 1)])
def test_a_resampler_that_the_config_wants_is_missed(lost, left):
    """IDEFICS without its resampler, or without one layer of it, is another IDEFICS: its config says which it is."""
    checkpoint, parts = peer("idefics")
    start = f"model.perceiver_resampler.{lost}"
    rest = {name: tensor for name, tensor in checkpoint.items() if not name.startswith(start)}
    assert len(rest) < len(checkpoint)
    with pytest.raises(CheckpointError, match=rf"has {left} layers of the resampler .* wanted resampler_depth=2"):
        load_foreign(rest, **parts)
    bare = idefics_parts(idefics_config(resampler=False))
    with pytest.raises(CheckpointError, match=r"has 2 layers of the resampler .* wanted resampler_depth=0"):
        load_foreign(checkpoint, **bare)


def test_a_layer_more_or_less_is_missed():
    """A live checkpoint without one whole decoder layer, or without the norm behind them, is no whole one."""
    checkpoint = live()
    lost = {name: tensor for name, tensor in checkpoint.items()
            if "decoder_blocks.1." not in name and "layers.1.decoder_layer" not in name}  # fmt: skip
    assert len(lost) < len(checkpoint)
    with pytest.raises(CheckpointError, match=r"lacks \d+ tensors: lang_encoder\.layers\.1\.decoder_layer"):
        load(lost)


@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_what_was_trained_is_enough(layout):
    """Checkpoints of the training code hold a table and no layer: nothing more is asked for."""
    load(export_foreign(CASE.build(), family="open_flamingo", layout=layout))


def offloaded(*, hooks):
    """A language model whose layers are held elsewhere, and computed on the CPU if accelerate's hooks say so."""
    lm = CASE.language_model(3)
    for layer in lm.layers:
        layer.to("meta")
        if hooks:
            layer._hf_hook = type("Hook", (), {"execution_device": "cpu"})()
    return lm


def test_offloaded_weights_are_not_written_into():
    """A weight on the meta device takes any copy and keeps nothing: it is refused before."""
    for hooks, place in ((True, "lm.layers.0"), (False, "blocks.0")):
        lm = offloaded(hooks=hooks)
        with pytest.raises(
            CheckpointError, match=rf"into {place}\S+: that is not in memory .*; load first, then offload"
        ):
            load(live(), lm=lm)
        assert all(weight.requires_grad for weight in lm.parameters())


def test_blocks_go_where_offloaded_layers_compute():
    """A checkpoint of what was trained fits around offloaded layers: each block is where its layer will compute."""
    flamingo = load(export_foreign(CASE.build(), family="open_flamingo"), lm=offloaded(hooks=True))
    assert {weight.device.type for weight in flamingo.blocks.parameters()} == {"cpu"}


class Packed(nn.Parameter):
    """A weight of a quantisation library."""


def as_integers(linear):
    linear.weight = nn.Parameter(linear.weight.data.to(torch.int8), requires_grad=False)


def as_packed(linear):
    linear.weight = Packed(linear.weight.data)


def as_float8(linear):
    linear.weight = nn.Parameter(linear.weight.data.to(torch.float8_e4m3fn), requires_grad=False)


@pytest.mark.parametrize(
    ("quantise", "message"),
    [
        (as_integers, r"of torch\.int8, the tensor of torch\.float32; load what is not quantised, then quantise"),
        (as_float8, r"of torch\.float8_e4m3fn, the tensor of torch\.float32"),
        (as_packed, "that is a Packed; load first, then quantise"),
    ],
)
def test_quantised_weights_are_not_written_into(quantise, message):
    """Numbers that would be cut to integers, or lose their scale, are refused with the order that works."""
    lm = CASE.language_model(3)
    linear = next(module for module in lm.layers[0].modules() if isinstance(module, nn.Linear))
    quantise(linear)
    before = linear.weight.data.clone()
    with pytest.raises(CheckpointError, match=message):
        load(live(), lm=lm)
    assert torch.equal(linear.weight.data.float(), before.float())


class FailingDisk:
    """An open file that fails behind so many tensors."""

    def __init__(self, tensors, reads):
        self.tensors, self.reads, self.names = tensors, reads, []

    def facts(self):
        return {}

    def read(self, name):
        self.names.append(name)
        if len(self.names) > self.reads:
            raise OSError("the disk is gone")
        return self.tensors[name]


@pytest.mark.parametrize("reads", [0, 5, 10**6])
def test_a_read_that_fails_midway_gives_the_parts_back(reads):
    """Hooks, modes and flags are as before, and the parts can be used; what was trained is read before them."""
    twice = ("lang_encoder.old_decoder_blocks.", "lang_encoder.gated_cross_attn_layers.")
    checkpoint = {name: tensor for name, tensor in live().items() if not name.startswith(twice)}
    opened = open_checkpoint(checkpoint)
    disk = FailingDisk(checkpoint, reads)
    failing = ForeignCheckpoint("the disk", opened.tensors, {"": disk})
    lm, tower = CASE.language_model(3).train(), CASE.tower()
    if reads > len(checkpoint):
        load(failing, lm=lm, vision=tower)
        frozen = [name.startswith(("vision", "lang")) and "gated" not in name for name in disk.names]
        assert frozen == sorted(frozen)
        assert set(frozen) == {False, True}
        return
    with pytest.raises(OSError, match="the disk is gone"):
        load(failing, lm=lm, vision=tower)
    assert all(weight.requires_grad for weight in lm.parameters())
    assert all(module.training for module in lm.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.modules())
    assert list(load(checkpoint, lm=lm, vision=tower).blocks) == ["0", "1", "2"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_new_parts_are_made_in_the_dtype_they_will_have(tmp_path, dtype):
    """Loading from several shards in half precision takes their bytes and a tensor more, and not twice of them."""
    case = replace(CASE, new_rows=False)
    checkpoint = {name: tensor.to(dtype) for name, tensor in export_foreign(case.build(), family=case.family).items()
                  if name.startswith("perceiver.") or "gated_cross" in name}  # fmt: skip
    write_shards(checkpoint, tmp_path / "shards", 3)
    lm = case.language_model(3)
    total = sum(tensor.nbytes for tensor in checkpoint.values())
    largest = max(tensor.nbytes for tensor in checkpoint.values())
    assert largest < total / 10
    with PeakBytes() as counted:
        flamingo = load_foreign(tmp_path / "shards", lm=lm, media_token_id=3)
    assert {weight.dtype for weight in flamingo.blocks.parameters()} == {dtype}
    assert total <= counted.peak <= total + 2 * largest


def test_a_quantised_trained_part_is_refused():
    """Float8 without its scales, or integers, are no weights of a block, which keeps the dtypes of others."""
    checkpoint = export_foreign(CASE.build(), family="open_flamingo")
    name = "lang_encoder.layers.1.gated_cross_attn_layer.ff.1.weight"
    for dtype in (torch.float8_e4m3fn, torch.int8):
        with pytest.raises(CheckpointError, match=rf"{name} .* cannot be copied into blocks\.1\.\S+: that is of"):
            load(checkpoint | {name: checkpoint[name].to(dtype)})


def test_a_part_without_a_source_is_an_error(monkeypatch):
    """A family whose plan fills not all of its model leaves no weight as it happens to be in memory."""
    family = find_family("open_flamingo")
    plan = family.plan

    def without_a_gate(self, shapes, **options):
        made = plan(shapes, **options)
        made.entries.pop(
            next(n for n, entry in enumerate(made.entries) if "blocks.1.attention_gate.gate" in entry.ours)
        )
        return replace(made, kept=made.kept | {"lang_encoder.layers.1.gated_cross_attn_layer.attn_gate": "forgotten"})

    monkeypatch.setattr(type(family), "plan", without_a_gate)
    with pytest.raises(CheckpointError, match=r"has no tensors for blocks\.1\.attention_gate\.gate of the model"):
        load(export_foreign(CASE.build(), family="open_flamingo"))


def test_frozen_weights_of_transformers_can_be_left_out():
    """Those of the language model stay its own, and come back from the checkpoint."""
    checkpoint, _ = peer("idefics")
    parts = idefics_parts(tiny_idefics().config)
    before = parts["lm"].model.layers[0].mlp.up_proj.weight.clone()
    options = {"leave_out": ("model.layers.",)}
    flamingo = load_foreign(checkpoint, **parts, **options)
    assert torch.equal(parts["lm"].model.layers[0].mlp.up_proj.weight, before)
    back = export_foreign(flamingo, family="idefics", like=checkpoint, resampler_num_heads=2, **options)
    assert all(torch.equal(back[name], tensor) for name, tensor in checkpoint.items())


def test_trained_weights_cannot_be_left_out():
    """Nothing else has values for them."""
    with pytest.raises(ValueError, match=r"leave_out has 'perceiver\.norm', with which perceiver\.norm\.weight begins"):
        load(live(), leave_out=("perceiver.norm",))


def test_a_projector_is_made_where_the_tower_is():
    """No random number is drawn for it, for its weights come from the checkpoint."""
    checkpoint, _ = peer("mllama")
    parts = mllama_parts(tiny_mllama().config)
    state = torch.get_rng_state()
    flamingo = load_foreign(checkpoint, **parts)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(flamingo.projection.bias, checkpoint["model.multi_modal_projector.bias"])
    parts = mllama_parts(tiny_mllama().config)
    parts["vision"].to("meta")
    with pytest.raises(CheckpointError, match="not in memory"):  # the tower's own device, here one without memory
        load_foreign(checkpoint, **parts)


def test_documents_end_where_idefics_ends_them():
    """IDEFICS has one end of documents; a model without, or with another, would see other images there."""
    checkpoint, parts = peer("idefics")
    for end in (None, 5):
        flamingo = load_foreign(checkpoint, **(parts | {"document_end_id": end}))
        with pytest.raises(CheckpointError, match=f"ends documents at .* end of text, 2; .* document_end_id={end}"):
            export_foreign(flamingo, family="idefics")
        flamingo.detach()
