"""A converted IDEFICS computes what transformers' own does, and comes back as the same file."""

from itertools import chain

import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText

from flamingo_blocks import Flamingo
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf import FlamingoForConditionalGeneration
from flamingo_blocks.interop import (
    detect_family,
    export_foreign,
    idefics_inputs,
    idefics_parts,
    load_foreign,
    open_checkpoint,
)
from flamingo_blocks.interop.write_checkpoint import write_checkpoint
from tests.interop.transformers_peers import (
    END,
    FAKE,
    IMAGE,
    VOCAB,
    idefics_batch,
    idefics_processor,
    picture,
    tiny_idefics,
)
from tests.strategies import heavy, seeds

FORMS = {
    "scalar gates": {},
    "gates by channel, norms over heads": {"norms": True, "alpha_type": "vector"},
    "no resampler": {"resampler": False},
    "tied": {"tie_word_embeddings": True},
    "a block before every layer": {"cross_layer_interval": 1, "qk_layer_norms": True},
}
ROWS = [
    [1, 5, FAKE, IMAGE, FAKE, 6, FAKE, IMAGE, FAKE, 7, END, 8, 9],  # several images, then another document
    [1, FAKE, IMAGE, FAKE, IMAGE, FAKE, 7],  # images side by side
    [4, 5, 6, 7],  # none
]
SEGMENTS = st.sampled_from([[3], [4, 5], [END], [FAKE, IMAGE, FAKE], [IMAGE], [1]])


def convert(peer, **options) -> Flamingo:
    return load_foreign(peer.state_dict(), **(idefics_parts(peer.config) | options))


@pytest.fixture(scope="module")
def peer():
    return tiny_idefics(**FORMS["gates by channel, norms over heads"])


@pytest.fixture(scope="module")
def flamingo(peer):
    return convert(peer)


def assert_same_logits(flamingo, peer, batch) -> None:
    real = batch["attention_mask"].bool()
    actual = flamingo(**idefics_inputs(flamingo, **batch)).logits[real]
    torch.testing.assert_close(actual, peer(**batch).logits[real], atol=2e-5, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_same_logits(form):
    """Every form of its blocks, resampler and head; no image, several, side by side, another document, left pads."""
    peer = tiny_idefics(**FORMS[form])
    flamingo = convert(peer)
    assert_same_logits(flamingo, peer, idefics_batch(ROWS))
    assert_same_logits(flamingo, peer, idefics_batch(ROWS[2:]))  # no image in the whole batch
    assert flamingo(torch.tensor([[1, IMAGE, 5]]), pixels=torch.zeros(1, 1, 3, 8, 8)).logits.shape[-1] == VOCAB + 2


@heavy()
@given(st.lists(st.lists(SEGMENTS, min_size=1, max_size=5), min_size=1, max_size=3), seeds)
def test_the_same_logits_for_any_text(peer, flamingo, rows, seed):
    """Images and ends of documents anywhere, rows of any length beside each other."""
    assert_same_logits(flamingo, peer, idefics_batch([list(chain(*row)) for row in rows], seed))


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_the_same_tokens(peer, flamingo, options):
    """Greedy choice and beams over left-padded rows, token for token; the peer projects its images at every step."""
    if options["num_beams"] > 1 and transformers.__version__.startswith("5.0."):
        pytest.skip("beams of transformers 5.0 do not count its additional tokens")
    batch = idefics_batch([[1, 5, FAKE, IMAGE, FAKE, 6], [FAKE, IMAGE, FAKE, IMAGE, FAKE, 7, 3], [4, 5]])
    options = {**options, "do_sample": False, "max_new_tokens": 8, "eos_token_id": END, "pad_token_id": 0}
    expected = peer.generate(**batch, **options)
    actual = flamingo.generate(**idefics_inputs(flamingo, **batch), **options)
    assert torch.equal(actual, expected)
    assert expected.shape[1] > 9


def test_what_the_processor_gives(peer, flamingo):
    """Pictures and words through transformers' own processor; the tower's preprocessing is that of the processor."""
    image = picture(12, 10)
    prompts = [["User:", image, "describe this", image, image, "a cat"], ["User: a dog"]]
    batch = dict(idefics_processor()(text=prompts, return_tensors="pt"))
    assert torch.equal(flamingo.vision.preprocess(image), batch["pixel_values"][0, 0])
    arguments = idefics_inputs(flamingo, **batch)
    assert arguments["pixels"].shape == (3, 1, 3, 8, 8)
    assert_same_logits(flamingo, peer, batch)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["live", "saved"])
def test_there_and_back(form, kind, tmp_path):
    """The same names and tensors; a file saved by transformers comes back byte for byte."""
    peer = tiny_idefics(**FORMS[form])
    flamingo = convert(peer)
    if kind == "live":
        back = export_foreign(flamingo, family="idefics")
        expected = peer.state_dict()
        assert back.keys() == expected.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in expected.items())
        return
    peer.save_pretrained(tmp_path / "peer")
    opened = open_checkpoint(tmp_path / "peer" / "model.safetensors")
    assert detect_family(opened.shapes).name == "idefics"
    loaded = load_foreign(tmp_path / "peer" / "model.safetensors", **idefics_parts(tmp_path / "peer"))
    options = {name: value for name, value in idefics_parts(peer.config).items() if name not in ("lm", "vision")}
    back = export_foreign(loaded, family="idefics", like=opened, **options)
    write_checkpoint(back, tmp_path / "back.safetensors", like=opened)
    assert (tmp_path / "back.safetensors").read_bytes() == (tmp_path / "peer" / "model.safetensors").read_bytes()


def test_buffers_of_older_versions_are_kept(peer, tmp_path):
    """Frequencies and position ids, which versions before 2024 saved, are read over and come back."""
    old = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
        "model.gated_cross_attn_layers.1.cross_attn.rotary_emb.inv_freq": torch.ones(2),
        "model.vision_model.embeddings.position_ids": torch.arange(5)[None],
    }
    checkpoint = {**peer.state_dict(), **old}
    flamingo = load_foreign(checkpoint, family="idefics", **idefics_parts(peer.config))
    back = export_foreign(flamingo, family="idefics", like=checkpoint)
    assert list(back) == list(checkpoint)
    assert all(torch.equal(back[name], tensor) for name, tensor in checkpoint.items())


def test_half_precision(tmp_path):
    """A checkpoint in bfloat16 comes back as it was, around a language model in bfloat16 and one in float32."""
    peer = tiny_idefics().bfloat16()
    checkpoint = peer.state_dict()
    for dtype in (torch.bfloat16, torch.float32):
        flamingo = load_foreign(checkpoint, **idefics_parts(peer.config, dtype=dtype))
        assert flamingo.lm.dtype == dtype
        back = export_foreign(flamingo, family="idefics", like=checkpoint, resampler_num_heads=2)
        assert all(torch.equal(back[name], tensor) for name, tensor in checkpoint.items())


def test_a_loss_where_the_peer_has_none(peer, flamingo):
    """With additional tokens the peer's `labels=` raises; ours gives the loss of the peer's logits."""
    batch = idefics_batch(ROWS[1:2])
    ids = batch["input_ids"]
    with pytest.raises(Exception, match=r"(?i)size|shape|target"):
        peer(**batch, labels=ids)
    labels = ids.masked_fill(ids == IMAGE, -100)
    expected = torch.nn.functional.cross_entropy(peer(**batch).logits[0, :-1], labels[0, 1:])
    torch.testing.assert_close(flamingo(**idefics_inputs(flamingo, **batch), labels=labels).loss, expected)


def test_saved_and_loaded(flamingo, tmp_path):
    """The converted model is saved whole, and loaded without transformers' IDEFICS: the same logits."""
    flamingo.save_pretrained(tmp_path, frozen="include")
    loaded = Flamingo.from_pretrained(tmp_path)
    batch = idefics_inputs(flamingo, **idefics_batch(ROWS))
    assert torch.equal(loaded(**batch).logits, flamingo(**batch).logits)


def test_under_the_hugging_face_front(flamingo, tmp_path):
    """The front saves what is special to it, and the Auto classes give the same logits and tokens."""
    FlamingoForConditionalGeneration.from_flamingo(flamingo).save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    batch = idefics_inputs(flamingo, **idefics_batch(ROWS))
    pixels = batch.pop("pixels")
    assert torch.equal(loaded(**batch, pixel_values=pixels).logits, flamingo(**batch, pixels=pixels).logits)
    options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "pad_token_id": 0}
    expected = flamingo.generate(**batch, pixels=pixels, **options)
    assert torch.equal(loaded.generate(**batch, pixel_values=pixels, **options), expected)


def test_options_that_no_tensor_tells():
    """Ids, distance and heads are read from the parts, or told."""
    peer = tiny_idefics()
    parts = idefics_parts(peer.config)
    flamingo = load_foreign(peer.state_dict(), **parts)
    assert (flamingo.media_token_id, flamingo.document_end_id, list(flamingo.blocks)) == (IMAGE, END, ["0", "2"])
    told = {"media_token_id": FAKE, "document_end_id": None, "num_heads": 2, "norm_eps": 1e-4}
    flamingo = convert(peer, **told)
    config = flamingo.blocks["0"].config
    assert (flamingo.media_token_id, flamingo.document_end_id) == (FAKE, None)
    assert (config["num_heads"], config["norm_eps"]) == (2, 1e-4)
    assert flamingo.resampler.config["num_heads"] == 2


def test_several_ends_of_text():
    """Of several end tokens the first one ends a document."""
    peer = tiny_idefics()
    parts = idefics_parts(peer.config)
    parts["lm"].config.eos_token_id = [END, 5]
    assert load_foreign(peer.state_dict(), **parts).document_end_id == END


def test_features_in_place_of_a_tower(peer, flamingo):
    """Without a tower the weights of the checkpoint's are named, or left out on request."""
    parts = idefics_parts(peer.config) | {"vision": None}
    with pytest.raises(CheckpointError, match=r"tensors of a vision tower \(model.vision_model.embeddings"):
        load_foreign(peer.state_dict(), **parts)
    blind = load_foreign(peer.state_dict(), **parts, leave_out=("model.vision_model.",))
    batch = idefics_inputs(flamingo, **idefics_batch(ROWS))
    features = flamingo.vision(batch["pixels"][:, 0]).tokens[:, None]
    ids, mask = batch["input_ids"], batch["attention_mask"]
    actual = blind(ids, attention_mask=mask, features=features).logits
    assert torch.equal(actual, flamingo(**batch).logits)


def without(state, *endings):
    return {name: tensor for name, tensor in state.items() if not name.endswith(endings)}


def last_block_lost(state):
    return {name: tensor for name, tensor in state.items() if "gated_cross_attn_layers.1." not in name}


def first_block_lost(state):
    return {name: tensor for name, tensor in state.items() if "gated_cross_attn_layers.0." not in name}


def reshaped(state):
    return state | {"model.gated_cross_attn_layers.1.mlp.down_proj.weight": torch.zeros(16, 25)}


def of_another_tower(state):
    return state | {"model.vision_model.embeddings.class_embedding": torch.zeros(13)}


DAMAGED = {
    "the last block": (last_block_lost, "has 1 gated blocks, one before every 2 of 4 layers would be 2"),
    "the first block": (first_block_lost, r"has gated blocks \[1\], but lacks \[0\]"),
    "a gate": (lambda state: without(state, "1.alpha_dense"), "lacks 1 tensors: .*layers.1.alpha_dense"),
    "a layer of the language model": (
        lambda state: without(state, "layers.3.mlp.up_proj.weight"), "lacks 1 tensors: model.layers.3.mlp.up_proj",
    ),
    "the resampler's norm": (lambda state: without(state, "resampler.layer_norm.bias"), "lacks 1 tensors"),
    "a name more": (lambda state: state | {"model.layers.4.x": torch.zeros(1)}, "not known: model.layers.4.x"),
    "a shape": (reshaped, r"gated_cross_attn_layers.1.mlp.down_proj.weight has shape \(16, 25\) .* wanted \(16, 24\)"),
    "a shape of the tower": (of_another_tower, r"class_embedding has shape \(13,\) .* wanted \(12,\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_refused(name):
    """What is missing, too much or of another shape is named, and the language model is left as it was."""
    peer = tiny_idefics()
    damage, message = DAMAGED[name]
    parts = idefics_parts(peer.config)
    before = {key: tensor.clone() for key, tensor in parts["lm"].state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_foreign(damage(peer.state_dict()), family="idefics", **parts)
    assert all(torch.equal(before[key], tensor) for key, tensor in parts["lm"].state_dict().items())
    assert not any(module._forward_pre_hooks for module in parts["lm"].modules())
    load_foreign(peer.state_dict(), **parts)  # and can be used with the right one


def test_files_that_are_no_checkpoint_of_this_kind(tmp_path):
    """A truncated file, and a checkpoint of another family."""
    peer = tiny_idefics()
    peer.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    parts = idefics_parts(peer.config)
    with pytest.raises(CheckpointError, match=r"cut.safetensors is cut off"):
        load_foreign(tmp_path / "cut.safetensors", **parts)
    with pytest.raises(CheckpointError, match="mllama"):
        load_foreign(peer.state_dict(), family="mllama", lm=parts["lm"], vision=parts["vision"])
    with pytest.raises(CheckpointError, match="has 2 gated blocks, one before every 3 of 4 layers would be 1.33333"):
        load_foreign(peer.state_dict(), **(parts | {"every": 3}))


def test_a_model_that_idefics_cannot_compute_is_not_exported():
    """Another activation, scope or grouping of heads is named."""
    flamingo = convert(tiny_idefics())
    flamingo.scope = "all"
    with pytest.raises(CheckpointError, match="idefics has scope 'last', .* this model has scope 'all'"):
        export_foreign(flamingo, family="idefics")
    flamingo.scope = "last"
    flamingo.blocks["2"].config["activation"] = "gelu"
    with pytest.raises(
        CheckpointError, match="block 2 has activation='gelu', and idefics computes activation='swiglu'"
    ):
        export_foreign(flamingo, family="idefics")


def test_a_mask_of_another_meaning_is_not_lost(flamingo):
    """A processor's mask that shows other images than the text says is refused, and so are images that are missing."""
    batch = idefics_batch(ROWS[:1])
    batch["image_attention_mask"][0, 1, 0] = 1  # text before the first image sees it
    with pytest.raises(ValueError, match="image_attention_mask shows token 1 of row 0 other images than the text says"):
        idefics_inputs(flamingo, **batch)
    batch = idefics_batch(ROWS[:1])
    with pytest.raises(ValueError, match="row 0 has 2 media tags .* but pixel_values hold 1 images a row"):
        idefics_inputs(flamingo, input_ids=batch["input_ids"], pixel_values=batch["pixel_values"][:, :1])
