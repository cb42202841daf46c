"""A converted Llama 3.2 Vision computes what transformers' own does where that is right, and comes back as it was."""

from contextlib import contextmanager
from itertools import chain

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, MllamaForCausalLM
from transformers.models.mllama.modeling_mllama import MllamaCrossAttentionDecoderLayer

from flamingo_blocks import Flamingo
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf import FlamingoForConditionalGeneration
from flamingo_blocks.interop import (
    detect_family,
    export_foreign,
    idefics_parts,
    load_foreign,
    mllama_inputs,
    mllama_parts,
    open_checkpoint,
    transformers_leak,
)
from flamingo_blocks.interop.write_checkpoint import write_checkpoint
from tests.interop.transformers_peers import (
    END,
    VOCAB,
    draw,
    left_padded,
    mllama_batch,
    mllama_config,
    mllama_processor,
    picture,
    tiny_idefics,
    tiny_mllama,
)
from tests.interop.transformers_peers import MLLAMA_IMAGE as IMAGE
from tests.strategies import heavy, seeds

# The peer is right where nothing stands before a row's first image.
RIGHT_ROWS = [[IMAGE, 1, 5, 6, IMAGE, IMAGE, 7, 8], [IMAGE, 1, 5, 9], [IMAGE, IMAGE, 3, 4]]
ANY_ROWS = [[1, 5, IMAGE, 6, IMAGE, IMAGE, 7], [3, 4, 5], [IMAGE, 8], [7, IMAGE]]
SEGMENTS = st.sampled_from([[3], [4, 5], [IMAGE], [IMAGE, IMAGE]])


def convert(peer, **options) -> Flamingo:
    return load_foreign(peer.state_dict(), **(mllama_parts(peer.config) | options))


@pytest.fixture(scope="module")
def peer():
    return tiny_mllama()


@pytest.fixture(scope="module")
def flamingo(peer):
    return convert(peer)


def assert_same_logits(batch, peer, flamingo) -> None:
    real = batch["attention_mask"].bool()
    actual = flamingo(**mllama_inputs(flamingo, **batch)).logits[real]
    torch.testing.assert_close(actual, peer(**batch).logits[real], atol=2e-5, rtol=0)


@contextmanager
def repaired(peer):
    """The peer with what Meta's own code does and its lacks: rows that see no image get no attention either."""
    layers = [module for module in peer.modules() if isinstance(module, MllamaCrossAttentionDecoderLayer)]
    rows = []

    def remember(_layer, _args, kwargs):
        rows[:] = [kwargs["full_text_row_masked_out_mask"]]

    def close(_attention, _args, output):
        return (output[0] if rows[0] is None else output[0] * rows[0][:, 0], *output[1:])

    handles = [layer.register_forward_pre_hook(remember, with_kwargs=True) for layer in layers]
    handles += [layer.cross_attn.register_forward_hook(close) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def test_the_same_logits_behind_images(peer, flamingo):
    """One image, several, side by side, tiles of every ratio, left pads: the published model as it runs today."""
    assert_same_logits(mllama_batch(RIGHT_ROWS), peer, flamingo)
    assert flamingo(torch.tensor([[IMAGE, 1]]), pixels=torch.zeros(1, 1, 3, 8, 8)).logits.shape == (1, 2, VOCAB)


def test_the_same_logits_without_images(peer, flamingo):
    """A text alone skips the blocks in the peer, and passes through ours unchanged."""
    assert_same_logits(left_padded([[1, 5, 6, 7], [3, 4]]), peer, flamingo)


@heavy()
@given(st.lists(st.lists(SEGMENTS, min_size=1, max_size=4), min_size=1, max_size=3), seeds)
def test_the_same_logits_for_any_text(peer, flamingo, rows, seed):
    """With the row mask of Meta's code put back, every token of every row: images anywhere, rows without any."""
    with repaired(peer):
        assert_same_logits(mllama_batch([list(chain(*row)) for row in rows], seed), peer, flamingo)


def test_the_leak_of_the_peer(peer, flamingo):
    """Text before an image feels it in transformers' code; here it does not, and the text behind it differs too."""
    batch = mllama_batch(ANY_ROWS)
    other = {**batch, "pixel_values": batch["pixel_values"] + 1}
    before = torch.tensor([True, True, False, False, False, False, False])  # columns of the first row
    theirs = [peer(**b).logits[0, before] for b in (batch, other)]
    ours = [flamingo(**mllama_inputs(flamingo, **b)).logits[0, before] for b in (batch, other)]
    assert (theirs[0] - theirs[1]).abs().max() > 1e-2
    assert torch.equal(*ours)


@pytest.mark.parametrize("row", [*ANY_ROWS, [3, IMAGE, 4, IMAGE, 5]], ids=str)
def test_the_leak_on_request(peer, flamingo, row):
    """Inside `transformers_leak` every token has the peer's logits, faults included; behind it none has them."""
    batch = mllama_batch([row])
    arguments = mllama_inputs(flamingo, **batch)
    with transformers_leak(flamingo):
        assert_same_logits(batch, peer, flamingo)
        with pytest.raises(ValueError, match="media are projected, as for a prompt or generation; compare forward"):
            flamingo.prefill(**arguments)
    if IMAGE in row[1:] and row[0] != IMAGE:
        assert (flamingo(**arguments).logits - peer(**batch).logits).abs().max() > 1e-2


@pytest.mark.parametrize("options", [{"num_beams": 1}, {"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}])
def test_the_same_tokens(peer, flamingo, options):
    """Greedy choice and beams over left-padded rows that begin with an image, token for token."""
    batch = mllama_batch(RIGHT_ROWS)
    options = {**options, "do_sample": False, "max_new_tokens": 8, "eos_token_id": END, "pad_token_id": 0}
    expected = peer.generate(**batch, **options)
    assert torch.equal(flamingo.generate(**mllama_inputs(flamingo, **batch), **options), expected)
    with repaired(peer):
        batch = mllama_batch(ANY_ROWS)
        expected = peer.generate(**batch, **options)
    assert torch.equal(flamingo.generate(**mllama_inputs(flamingo, **batch), **options), expected)


def test_a_turn_behind_a_prompt(flamingo):
    """A prompt is run once, and a turn with images of its own goes on from it: the same logits as all at once."""
    batch = mllama_batch([[1, IMAGE, 5, 6, IMAGE, IMAGE, 7]])
    whole = mllama_inputs(flamingo, **batch)
    ids, features, valid = (whole[name] for name in ("input_ids", "features", "patch_valid"))
    prompt = flamingo.prefill(ids[:, :4], features=features[:1], patch_valid=valid[:1])
    turn = flamingo(ids[:, 4:], prompt=prompt, features=features[1:], patch_valid=valid[1:]).logits
    torch.testing.assert_close(turn, flamingo(**whole).logits[:, 4:], atol=1e-5, rtol=0)


def test_what_the_processor_gives(peer, flamingo):
    """Pictures of several ratios and words through transformers' own processor, mask compared."""
    texts = ["<|image|> describe this", "<|image|> <|image|> a cat"]
    images = [[picture(12, 10)], [picture(8, 8, 1), picture(30, 6, 2)]]
    batch = dict(mllama_processor()(text=texts, images=images, return_tensors="pt", padding=True))
    arguments = mllama_inputs(flamingo, **batch)
    assert arguments["features"].shape[:2] == (3, 4)
    assert_same_logits(batch, peer, flamingo)


def test_an_image_of_one_tile(peer, flamingo):
    """The tower takes single frames too: the tokens of an image of one tile."""
    batch = mllama_batch([[IMAGE, 5]], seed=3)
    pixels = torch.zeros(1, 1, 4, 3, 8, 8)
    pixels[:, :, 0] = batch["pixel_values"][:, :, 0]
    tiles = torch.tensor([[[1, 0, 0, 0]]])
    one = {"pixel_values": pixels, "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long), "aspect_ratio_mask": tiles}
    batch |= {**one, "cross_attention_mask": tiles[:, None].expand(1, 2, 1, 4)}
    assert_same_logits(batch, peer, flamingo)
    actual = flamingo(batch["input_ids"], pixels=pixels[:, 0, :1]).logits
    torch.testing.assert_close(actual, peer(**batch).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("names", ["live", "hub"])
def test_there_and_back(peer, flamingo, names, tmp_path):
    """The same names and tensors, live and as saved; a file comes back byte for byte, and so does a bfloat16 one."""
    if names == "live":
        expected, back = peer.state_dict(), export_foreign(flamingo, family="mllama", names="live")
        assert back.keys() == expected.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in expected.items())
        return
    for dtype in (torch.float32, torch.bfloat16):
        folder = tmp_path / str(dtype)
        tiny_mllama().to(dtype).save_pretrained(folder)
        opened = open_checkpoint(folder / "model.safetensors")
        assert detect_family(opened.shapes).name == "mllama"
        assert any(name.startswith("language_model.model.layers.1.cross_attn.") for name in opened.shapes)
        loaded = load_foreign(folder, **mllama_parts(folder, dtype=dtype))
        assert loaded.lm.dtype == dtype
        assert export_foreign(loaded, family="mllama").keys() == opened.shapes.keys()
        back = export_foreign(loaded, family="mllama", like=opened)
        write_checkpoint(back, folder / "back.safetensors", like=opened)
        assert (folder / "back.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()


def test_shards(peer, tmp_path):
    """A checkpoint in several files is read one after the other, and comes back as the same files."""
    peer.save_pretrained(tmp_path / "peer", max_shard_size="20KB")
    files = sorted(path.name for path in (tmp_path / "peer").glob("*.safetensors"))
    assert len(files) > 2
    opened = open_checkpoint(tmp_path / "peer")
    loaded = load_foreign(tmp_path / "peer", **mllama_parts(tmp_path / "peer"))
    batch = mllama_batch(RIGHT_ROWS)
    assert_same_logits(batch, peer, loaded)
    write_checkpoint(export_foreign(loaded, family="mllama", like=opened), tmp_path / "back", like=opened)
    for name in files:
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "peer" / name).read_bytes()


def test_the_text_model_alone():
    """`MllamaForCausalLM`: no tower, no projector; media tokens of the width of the text."""
    config = mllama_config().text_config
    peer = draw(MllamaForCausalLM(config))
    checkpoint = peer.state_dict()
    flamingo = load_foreign(checkpoint, **mllama_parts(config))
    assert flamingo.projection is None
    ids = torch.tensor([[IMAGE, 5, 6], [IMAGE, 7, 8]])
    states = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(0))
    visible = torch.zeros(2, 1, 3, 7)
    expected = peer(ids, cross_attention_states=states, cross_attention_mask=visible).logits
    torch.testing.assert_close(flamingo(ids, media=states).logits, expected, atol=2e-5, rtol=0)
    back = export_foreign(flamingo, family="mllama")
    assert back.keys() == checkpoint.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in checkpoint.items())


def test_the_language_model_is_a_plain_llama(peer, tmp_path):
    """Frequencies are scaled as Llama 3's, layers are renumbered, and it saves and loads by itself."""
    lm = convert(peer).lm
    assert type(lm).__name__ == "LlamaForCausalLM"
    assert lm.config.num_hidden_layers == 3
    assert lm.config.rope_parameters["rope_type"] == "llama3"
    assert lm.model.embed_tokens.num_embeddings == VOCAB
    state = peer.state_dict()
    for ours, theirs in {0: 0, 1: 2, 2: 4}.items():
        weight = state[f"model.language_model.layers.{theirs}.mlp.up_proj.weight"]
        assert torch.equal(lm.model.layers[ours].mlp.up_proj.weight, weight)
    lm.save_pretrained(tmp_path)
    assert type(lm).from_pretrained(tmp_path).config.vocab_size == VOCAB


def test_saved_and_loaded(flamingo, tmp_path):
    """The converted model is saved whole and loaded again: the same logits."""
    flamingo.save_pretrained(tmp_path, frozen="include")
    loaded = Flamingo.from_pretrained(tmp_path)
    batch = mllama_inputs(flamingo, **mllama_batch(ANY_ROWS))
    assert torch.equal(loaded(**batch).logits, flamingo(**batch).logits)


def test_under_the_hugging_face_front(flamingo, tmp_path):
    """The front saves that tokens are read only and images are grouped: the same logits and beams."""
    FlamingoForConditionalGeneration.from_flamingo(flamingo).save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert loaded.config.vocab_size == VOCAB
    batch = mllama_inputs(flamingo, **mllama_batch(ANY_ROWS))
    assert torch.equal(loaded(**batch).logits, flamingo(**batch).logits)
    options = {"max_new_tokens": 4, "num_beams": 2, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(loaded.generate(**batch, **options), flamingo.generate(**batch, **options))


def without(state, *words):
    return {name: tensor for name, tensor in state.items() if not any(word in name for word in words)}


def shifted(state):
    """The first layer of cross-attention moves behind the second, so that two stand side by side."""
    swap = {".layers.1.": ".layers.2.", ".layers.2.": ".layers.1."}
    return {
        next((name.replace(old, new) for old, new in swap.items() if old in name), name): tensor
        for name, tensor in state.items()
    }


DAMAGED = {
    "a layer in the middle": (lambda state: without(state, ".layers.1."), r"layers up to 4, but lacks \[1\]"),
    "the last layer": (lambda state: without(state, "language_model.layers.4."), "lm has 3, wanted 2"),
    "two blocks side by side": (shifted, r"layers of cross-attention at \[2, 3\] of 5; a block must stand before"),
    "the gate of the feed-forward layer": (lambda state: without(state, "3.cross_attn_mlp_gate"), "lacks 1 tensors"),
    "the projector's offset": (lambda state: without(state, "projector.bias"), "lacks 1 .*multi_modal_projector.bias"),
    "the head": (lambda state: without(state, "lm_head"), "lacks 1 tensors: lm_head.weight"),
    "a name more": (lambda state: state | {"model.speech.x": torch.zeros(1)}, "not known: model.speech.x"),
    "rows of the table": (
        lambda state: state | {"model.language_model.embed_tokens.weight": torch.zeros(29, 16)},
        "embed_tokens.weight has 29 rows, but the table of lm has 30",
    ),
    "a shape": (
        lambda state: state | {"model.language_model.layers.3.mlp.down_proj.weight": torch.zeros(16, 25)},
        r"layers.3.mlp.down_proj.weight has shape \(16, 25\) .* wanted \(16, 24\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_checkpoint_is_refused(peer, name):
    """What is missing, too much or of another shape is named, and the language model is left as it was."""
    damage, message = DAMAGED[name]
    parts = mllama_parts(peer.config)
    before = {key: tensor.clone() for key, tensor in parts["lm"].state_dict().items()}
    with pytest.raises(CheckpointError, match=message):
        load_foreign(damage(peer.state_dict()), family="mllama", **parts)
    assert all(torch.equal(before[key], tensor) for key, tensor in parts["lm"].state_dict().items())
    assert not any(module._forward_pre_hooks for module in parts["lm"].modules())


def test_files_and_models_of_another_kind(peer, tmp_path):
    """A truncated file, a checkpoint of another family, and a model that Mllama cannot compute."""
    peer.save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    parts = mllama_parts(peer.config)
    with pytest.raises(CheckpointError, match=r"cut.safetensors is cut off"):
        load_foreign(tmp_path / "cut.safetensors", **parts)
    other = tiny_idefics()
    with pytest.raises(CheckpointError, match="no checkpoint of mllama"):
        load_foreign(other.state_dict(), family="mllama", lm=parts["lm"], vision=parts["vision"])
    with pytest.raises(CheckpointError, match="mllama has scope 'grouped', .* this model has scope 'last'"):
        export_foreign(load_foreign(other.state_dict(), **idefics_parts(other.config)), family="mllama")


def test_inputs_that_do_not_fit(flamingo):
    """A mask of another meaning, images without ratios, and a tower of another kind."""
    batch = mllama_batch(ANY_ROWS)
    wrong = {**batch, "cross_attention_mask": batch["cross_attention_mask"].clone()}
    wrong["cross_attention_mask"][0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="cross_attention_mask shows token 0 of row 0 other images"):
        mllama_inputs(flamingo, **wrong)
    with pytest.raises(ValueError, match="pixel_values come without aspect_ratio_ids"):
        mllama_inputs(flamingo, input_ids=batch["input_ids"], pixel_values=batch["pixel_values"])
    other = tiny_idefics()
    with pytest.raises(TypeError, match="vision is a IdeficsTower, wanted a MllamaTower"):
        mllama_inputs(load_foreign(other.state_dict(), **idefics_parts(other.config)), **batch)
