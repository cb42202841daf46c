"""What does not fit is said before anything is changed: each error names the tensor, both sides, and the fix."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flamingo_blocks import Flamingo
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.interop import detect_family, export_foreign, find_family, load_foreign
from flamingo_blocks.models import PaperLanguageModel, build_tiny_flamingo
from flamingo_blocks.vision import CallableTower
from tests.interop.foreign_models import FAMILIES, ForeignCase, foreign_cases
from tests.interop.open_flamingo_peer import plain_language_model
from tests.language_models import DIM, VOCAB, PlainDecoder, draw_weights
from tests.strategies import heavy

CASE = ForeignCase("open_flamingo", depth=3, every=1, latents=2, resampler_depth=1, frames=0, new_rows=True, seed=1)
TABLES_OF_FRAMES = ("frame_embs", "video_frame_pos_emb")
OF_ANY_LENGTH = (".latents", ".time_pos_emb")
GATE = "lang_encoder.layers.1.gated_cross_attn_layer.attn_gate"


def saved(**options):
    return export_foreign(CASE.build(), family="open_flamingo", **options)


def load(checkpoint, **options):
    arguments = {"lm": CASE.language_model(3), "vision": CASE.tower(), **options}
    return load_foreign(checkpoint, **arguments)


@heavy()
@given(foreign_cases(), st.data())
def test_any_tensor_that_is_missing_or_of_another_shape_is_named(case, data):
    """Of every family, whichever trained tensor is lost, cut or doubled: its name is in the error, nothing changes."""
    checkpoint = export_foreign(case.build(), family=case.family)
    ours = case.language_model(case.seed + 7)
    outline = find_family(case.family).outline({name: tuple(tensor.shape) for name, tensor in checkpoint.items()})
    name = data.draw(st.sampled_from(sorted(entry.foreign for entry in outline.entries)))
    how = data.draw(st.sampled_from(["missing", "rows", "axes", "unknown"]))
    if name.endswith(TABLES_OF_FRAMES):  # without it the checkpoint is that of a model without one
        how = "unknown"
    tensor = checkpoint.pop(name)
    if how == "rows" and not name.endswith((*OF_ANY_LENGTH, ".media_pos_emb")):
        checkpoint[name] = torch.cat([tensor, tensor, tensor])
    elif how in ("rows", "axes"):
        checkpoint[name] = tensor[None]
    elif how == "unknown":
        checkpoint |= {name: tensor, f"{name}.else": tensor}
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    with pytest.raises(CheckpointError) as error:
        load_foreign(checkpoint, family=case.family, lm=ours, vision=case.tower(), **case.options)
    assert how in ("rows", "axes") or name in str(error.value)
    assert all(torch.equal(before[key], value) for key, value in ours.state_dict().items())
    assert all(weight.requires_grad for weight in ours.parameters())
    assert not any(module._forward_pre_hooks for module in ours.modules())


def without(checkpoint, part):
    return {name: tensor for name, tensor in checkpoint.items() if part not in name}


def changed(checkpoint, name, value):
    return checkpoint | {name: value}


def test_a_missing_block_is_told_by_its_layer():
    """Blocks that do not stand at equal distances have lost one."""
    with pytest.raises(CheckpointError, match=r"blocks for layers \[0, 2\], but lacks those for \[1\]"):
        load(without(saved(), "layers.1.gated"))
    with pytest.raises(CheckpointError, match=r"blocks for layers \[0, 1\], but lacks those for \[2\]"):
        load(without(saved(), "layers.2.gated"))


def test_the_distance_can_be_demanded():
    """With `every` given, blocks elsewhere are refused too."""
    with pytest.raises(CheckpointError, match=r"with every=3 there are no blocks for layers \[0, 1\]"):
        load(saved(), every=3)
    assert list(load(saved(), every=1).blocks) == ["0", "1", "2"]


def test_a_missing_resampler_is_said():
    """`strict=False` would have left it at its random start."""
    with pytest.raises(CheckpointError, match=r"lacks perceiver\.latents"):
        load(without(saved(), "perceiver."))


def test_two_layouts_that_differ_are_refused():
    """The two copies of a block in a checkpoint of version 1 must be one."""
    checkpoint = saved(layout="v1")
    twin = "lang_encoder.gated_cross_attn_layers.1.attn_gate"
    with pytest.raises(CheckpointError, match=rf"{GATE} and {twin} differ"):
        load(changed(checkpoint, twin, torch.full((1,), 9.0)))


def test_either_layout_alone_is_enough():
    """Blocks inside the language model, or in the list beside it: the same model."""
    checkpoint = saved(layout="v1")
    inside = load(without(checkpoint, "gated_cross_attn_layers."))
    listed = load(without(checkpoint, "gated_cross_attn_layer."))
    pairs = zip(inside.blocks.state_dict().values(), listed.blocks.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_another_language_model_is_told():
    """Fewer layers, another width, another place of the layers, a larger table: what was wanted, and the fix."""
    checkpoint = saved()
    with pytest.raises(CheckpointError, match="a block for layer 2, but lm has 2 layers"):
        load(checkpoint, lm=PlainDecoder())
    moved = {name.replace("encoder.layers.", "encoder.model.layers."): tensor for name, tensor in checkpoint.items()}
    with pytest.raises(CheckpointError, match="language model with layers 'model.layers'; lm has 'layers'"):
        load(moved)
    larger = CASE.language_model()
    larger.embedding, larger.head = nn.Embedding(VOCAB + 9, DIM), nn.Linear(DIM, VOCAB + 9)
    message = rf"has {VOCAB + 2} rows, but the table of lm has {VOCAB + 9}.*resize_token_embeddings\({VOCAB + 2}\)"
    with pytest.raises(CheckpointError, match=message):
        load(checkpoint, lm=larger)
    narrow = PaperLanguageModel(vocab_size=VOCAB, dim=8, depth=3, num_heads=2)
    with pytest.raises(CheckpointError, match="wanted|rows|shape|width"):
        load(checkpoint, lm=narrow)
    assert all(weight.requires_grad for weight in narrow.parameters())


def test_a_language_model_of_the_checkpoints_own_rows_needs_no_new_ones():
    """Where the table of `lm` has all rows already, the media tag is said and no row is new."""
    checkpoint = saved(layout="live")
    lm = CASE.language_model()
    lm.embedding, lm.head = nn.Embedding(VOCAB + 2, DIM), nn.Linear(DIM, VOCAB + 2, bias=False)
    without_bias = without(checkpoint, "head.bias")
    with pytest.raises(ValueError, match="media_token_id is not told by a checkpoint with 0 new rows"):
        load(without_bias, lm=lm)
    flamingo = load(without_bias, lm=lm, media_token_id=VOCAB + 1)
    assert flamingo.token_rows is None
    assert torch.equal(lm.embedding.weight, checkpoint["lang_encoder.embedding.weight"])


def test_a_tower_is_wanted_or_left_out():
    """A checkpoint with the weights of a tower wants one that has them, unless they are left out."""
    checkpoint = saved(layout="live")
    with pytest.raises(CheckpointError, match=r"tensors of a vision tower.*leave_out=\('vision_encoder\.',\)"):
        load(checkpoint, vision=None)
    with pytest.raises(CheckpointError, match="of a vision tower, which Embedding does not have"):
        load(checkpoint, vision=nn.Embedding(2, 2))
    flamingo = load(checkpoint, vision=None, leave_out=("vision_encoder.",))
    assert flamingo.vision is None
    back = export_foreign(flamingo, family="open_flamingo", like=checkpoint, leave_out=("vision_encoder.",))
    assert all(torch.equal(back[name], tensor) for name, tensor in checkpoint.items())


def test_weights_of_the_tower_are_copied_into_it():
    """The tower given ends up with the checkpoint's weights."""
    checkpoint = saved(layout="live")
    tower = CASE.tower()
    draw_weights(tower, 77)
    load(checkpoint, vision=tower)
    assert torch.equal(tower.encoder.weight, checkpoint["vision_encoder.weight"])


@pytest.mark.parametrize("family", ["otter", "flamingo_mini", "flamingo_pytorch"])
def test_the_wrong_family_is_said(family):
    """A checkpoint of one family read as another is refused with its own names."""
    with pytest.raises(CheckpointError, match=f"no checkpoint of {family}"):
        load(saved(), family=family)


def test_no_family_is_said():
    """Tensors of nothing that is known."""
    with pytest.raises(CheckpointError, match="families that fit this checkpoint: none"):
        detect_family({"encoder.weight": (1,)})
    with pytest.raises(ValueError, match="family is 'blip', wanted one of 'open_flamingo'"):
        find_family("blip")


def test_unknown_options_and_prefixes_are_said():
    """A word that no family knows, and a beginning that no tensor has."""
    with pytest.raises(ValueError, match="open_flamingo has no option 'evry'; its options are media_token_id"):
        load(saved(), evry=2)
    with pytest.raises(ValueError, match=r"leave_out has 'vison\.', but no tensor"):
        load(saved(), leave_out=("vison.",))


@pytest.mark.usefixtures("without_shape_checks")
def test_a_scope_is_for_those_that_have_two_modes():
    """Others have no such option on either way, and nobody shows text the images of its group alone."""
    for family in ("open_flamingo", "otter", "flamingo_pytorch"):
        case = ForeignCase(family, 2, 1, 2, 1, frames=0, new_rows=False, seed=2)
        checkpoint = export_foreign(case.build(), family=family)
        parts = {"lm": case.language_model(3), "vision": case.tower(), **case.options}
        with pytest.raises(ValueError, match="scope is 'grouped', wanted 'last', or 'all' for only_attend_immediate"):
            load_foreign(checkpoint, scope="grouped", **parts)
        flamingo = load_foreign(checkpoint, scope="all", **parts)
        assert flamingo.scope == "all"
        assert export_foreign(flamingo, family=family, scope="all").keys() == checkpoint.keys()
        with pytest.raises(CheckpointError, match=f"scope='all', and {family} computes scope='last'"):
            export_foreign(flamingo, family=family)
    case = ForeignCase("flamingo_mini", 2, 1, 2, 1, frames=1, new_rows=False, seed=2)
    checkpoint = export_foreign(case.build(), family="flamingo_mini")
    with pytest.raises(ValueError, match="flamingo_mini has no option 'scope'; its options are media_token_id"):
        load_foreign(checkpoint, lm=case.language_model(3), vision=case.tower(), scope="all", **case.options)
    with pytest.raises(ValueError, match="flamingo_mini has no option 'scope'; its options are head_dim, activation"):
        export_foreign(case.build(), family="flamingo_mini", scope="all")


def test_a_tag_that_is_told_leaves_the_end_of_a_chunk():
    """The end of a chunk is the first new row, unless that is the tag."""
    ends = {tag: load(saved(), media_token_id=tag).end_token_id for tag in (3, VOCAB, VOCAB + 1)}
    assert ends == {3: VOCAB, VOCAB: None, VOCAB + 1: VOCAB}
    assert load(saved(), media_token_id=VOCAB, end_token_id=VOCAB + 1).end_token_id == VOCAB + 1


def test_a_failed_load_gives_the_parts_back():
    """A shape that does not fit is seen when the model stands already; its parts are as they were all the same."""
    lm, tower = CASE.language_model().train(), CASE.tower()
    checkpoint = changed(saved(), "lang_encoder.layers.0.gated_cross_attn_layer.ff.0.bias", torch.zeros(DIM + 1))
    with pytest.raises(CheckpointError, match=r"ff\.0\.bias has shape \(33,\) in the checkpoint, wanted \(32,\)"):
        load(checkpoint, lm=lm, vision=tower)
    assert all(weight.requires_grad for weight in lm.parameters())
    assert all(module.training for module in lm.modules())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in lm.modules())
    assert list(load(saved(), lm=lm).blocks) == ["0", "1", "2"]


def test_heads_that_do_not_divide_are_said():
    """The width of a head is no tensor's shape: what cannot be is refused."""
    with pytest.raises(CheckpointError, match=r"128 rows, which are not some heads of 48; pass num_heads="):
        load(saved(), head_dim=48)
    assert load(saved(), num_heads=4).blocks["0"].config["head_dim"] == 32


def test_positions_of_media_are_refused_unless_zero():
    """A learned position of each medium has no place here: zeros are accepted, others have to be left out."""
    name = "perceiver.media_time_embs"
    zeros = changed(saved(), name, torch.zeros(3, 1, 16))
    assert torch.equal(export_foreign(load(zeros), family="open_flamingo", like=zeros)[name], zeros[name])
    ones = changed(saved(), name, torch.ones(3, 1, 16))
    with pytest.raises(CheckpointError, match=rf"{name} is added to what our blocks have no place for"):
        load(ones)
    kept = export_foreign(load(ones, leave_out=(name,)), family="open_flamingo", like=ones, leave_out=(name,))
    assert torch.equal(kept[name], ones[name])


def test_constants_of_old_language_models_are_kept():
    """Rotary frequencies and causal masks that old versions saved are no weights, and come back as they were."""
    checkpoint = saved()
    old = {
        "lang_encoder.layers.0.decoder_layer.self_attn.rotary_emb.inv_freq": torch.rand(4),
        "lang_encoder.layers.0.decoder_layer.attention.bias": torch.ones(1, 1, 4, 4, dtype=torch.bool),
        "lang_encoder.layers.0.decoder_layer.attention.masked_bias": torch.tensor(-1e9),
    }
    checkpoint |= old
    back = export_foreign(load(checkpoint), family="open_flamingo", like=checkpoint)
    assert all(torch.equal(back[name], tensor) for name, tensor in old.items())


def test_new_rows_without_a_table_start_at_its_mean():
    """A checkpoint whose embeddings were frozen holds no rows: they are asked for, and start as `TokenRows` do."""
    checkpoint = without(saved(), "embedding")
    with pytest.raises(ValueError, match="media_token_id is not told"):
        load(checkpoint)
    flamingo = load(checkpoint, num_new_tokens=2)
    assert flamingo.media_token_id == VOCAB + 1
    torch.testing.assert_close(flamingo.token_rows.input, flamingo.lm.embedding.weight.mean(0).expand(2, -1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scope": "all"}, "scope='all', and {family} computes scope='last'"),
        ({"projection": nn.Linear(16, 16)}, "projection=.*Linear.*computes projection=None"),
        ({"document_end_id": 2}, "document_end_id=2"),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_family_cannot_compute_is_not_exported(family, change, message):
    """A model with options that the family's code does not have would become another model."""
    case = ForeignCase(family, 2, 1, 2, 1, frames=1, new_rows=False, seed=2)
    flamingo = case.build()
    if "projection" in change:
        width = flamingo.resampler.dim
        change = {"projection": nn.Linear(width, width)}
    arguments = {
        "lm": flamingo.detach(), "blocks": {int(k): b for k, b in flamingo.blocks.items()}, "media_token_id": 3,
        "resampler": flamingo.resampler, **change,
    }  # fmt: skip
    with pytest.raises(CheckpointError, match=message.format(family=family)):
        export_foreign(Flamingo(**arguments), family=family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_of_the_paper_is_no_model_of_another_family(family):
    """Squared ReLU and the norm on media have no counterpart."""
    with pytest.raises(CheckpointError, match="computes (activation|media_norm|head_dim)="):
        export_foreign(build_tiny_flamingo(), family=family)


def test_blocks_elsewhere_are_not_exported():
    """open_flamingo's blocks end with the last layer of each group; a block before layer 0 of two is elsewhere."""
    flamingo = ForeignCase("flamingo_mini", 2, 2, 2, 1, frames=0, new_rows=False, seed=2).build()
    with pytest.raises(CheckpointError, match=r"\(layer \+ 1\) % every == 0, and this model has them at \[0\] of 2"):
        export_foreign(flamingo, family="open_flamingo")
    with pytest.raises(CheckpointError, match="max_frames=0"):
        export_foreign(flamingo, family="flamingo_mini")


def test_parts_that_cannot_be_told_are_said(without_shape_checks):
    """`like` of another model: the tensor, and both shapes."""
    checkpoint = saved()
    flamingo = load(checkpoint)
    larger = {**checkpoint, "perceiver.latents": torch.zeros(5, 16)}
    with pytest.raises(CheckpointError, match=r"latents has shape \(5, 16\) in the checkpoint, but \(2, 16\)"):
        export_foreign(flamingo, family="open_flamingo", like=larger)


def test_a_head_of_2023_is_known_by_its_old_name():
    """GPT-NeoX called its head `embed_out`: its rows go to the head of today, new ones included, and come back."""
    lm = plain_language_model("gpt_neox")
    model = CASE.build()
    flamingo = Flamingo(
        lm=lm, blocks={1: model.blocks["0"]}, resampler=model.resampler, media_token_id=VOCAB + 1, end_token_id=VOCAB,
        num_new_tokens=2,
    )  # fmt: skip
    draw_weights(flamingo.token_rows, 5)
    checkpoint = export_foreign(flamingo, family="open_flamingo", layout="live")
    old = {name.replace("lm_head", "embed_out"): tensor for name, tensor in checkpoint.items()}
    other = draw_weights(plain_language_model("gpt_neox"), 6)
    loaded = load_foreign(old, lm=other)
    assert torch.equal(
        other.get_output_embeddings().weight, lm.get_output_embeddings().weight
    )  # of the old name in 5.0
    assert torch.equal(loaded.token_rows.output, flamingo.token_rows.output)
    assert list(export_foreign(loaded, family="open_flamingo", like=old)) == list(old)


def test_a_tower_of_another_width_is_refused():
    """The checkpoint holds none of its weights; what was made for other features tells both widths."""
    checkpoint = without(saved(), "vision_encoder")
    wide = CallableTower(nn.Conv2d(3, CASE.vision_dim + 3, 4, stride=4), image_size=8)
    lm = CASE.language_model(3)
    wanted = f"vision gives width {CASE.vision_dim + 3}, resampler wants vision_dim {CASE.vision_dim}"
    with pytest.raises(CheckpointError, match=wanted):
        load(checkpoint, vision=wide, lm=lm)
    assert not any(module._forward_pre_hooks for module in lm.modules())
    assert all(weight.requires_grad for weight in lm.parameters())


@pytest.mark.usefixtures("without_shape_checks")
def test_a_missing_language_model_is_told_with_what_builds_it():
    """IDEFICS and Llama 3.2 Vision have a function for their parts."""
    with pytest.raises(ValueError, match="lm is missing; pass the plain language model that open_flamingo was trained"):
        load_foreign(saved())
    for family in ("idefics", "mllama"):
        with pytest.raises(ValueError, match=rf"load_foreign\(folder, \*\*{family}_parts\(folder\)\)"):
            load_foreign(saved(), family=family)
