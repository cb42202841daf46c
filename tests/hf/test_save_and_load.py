"""What is written by `save_pretrained` is what `from_pretrained` gives back, in this process and in a new one."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from flamingo_blocks import Flamingo, GatedCrossAttentionBlock
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf import FlamingoConfig, FlamingoForConditionalGeneration, FlamingoProcessor
from flamingo_blocks.interop import load_foreign
from flamingo_blocks.interop.transformers_parts import idefics_parts, mllama_parts
from flamingo_blocks.models import every_layer
from flamingo_blocks.vision import CallableTower
from tests.hf.tiny import END, SIDE, TAG, make_images, make_lm, make_model, make_processor, make_tower
from tests.interop.transformers_peers import tiny_idefics, tiny_mllama
from tests.language_families import DIM, FAMILIES, VOCAB
from tests.language_models import draw_weights

KEYS = Path(__file__).with_name("state_dict_keys.json")
IDS = torch.tensor([[1, TAG, 5, 6, TAG, 7], [1, 5, 6, 7, 8, 9]])
PIXELS = torch.randn(2, 1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(IDS, pixel_values=PIXELS).logits


@pytest.mark.parametrize("tower", ("clip", "siglip"))
@pytest.mark.parametrize(("lm", "tied"), (("llama", False), ("llama", True), ("gpt2", True)))
def test_a_saved_model_computes_the_same_bit_for_bit(tmp_path, lm, tied, tower):
    """Logits before saving and after loading by the Auto class are equal, with tied weights and without."""
    model = make_model(lm, tower, tied=tied)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert type(loaded) is FlamingoForConditionalGeneration
    assert not loaded.training
    assert torch.equal(logits(loaded), logits(model))
    assert loaded.state_dict().keys() == model.state_dict().keys()
    rows = loaded.flamingo.token_rows
    assert (rows.input is rows.output) == tied
    assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) == tied


@pytest.mark.parametrize("name", ("gemma3", "bloom", "mixtral", "mamba", "falcon_h1"))
def test_other_families_are_saved_and_loaded(tmp_path, name):
    """Scaled tables, ALiBi, experts, states and hybrids come back whole, with the buffers that no file holds."""
    lm = FAMILIES[name].build()
    model = FlamingoForConditionalGeneration.from_parts(
        lm,
        make_tower(),
        blocks=every_layer(lm, lambda: GatedCrossAttentionBlock(DIM, vision_dim=16, num_heads=2)),
        media_token_id=VOCAB,
        num_new_tokens=1,
    )
    draw_weights(model.flamingo)
    ids = torch.tensor([[2, VOCAB, 5, 6, 7]])
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    with torch.no_grad():
        expected, actual = (one(ids, pixel_values=PIXELS[:1]).logits for one in (model.eval(), loaded))
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ("idefics", "mllama"))
def test_a_converted_model_is_saved_as_any_other(tmp_path, family):
    """Weights of IDEFICS and of Llama 3.2 Vision go through the front: own towers, grouped images, known tags."""
    tiny, parts = {"idefics": (tiny_idefics, idefics_parts), "mllama": (tiny_mllama, mllama_parts)}[family]
    peer = tiny()
    flamingo = load_foreign(peer.state_dict(), family=family, **parts(peer.config)).eval()
    model = FlamingoForConditionalGeneration.from_flamingo(flamingo)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    tag = flamingo.media_token_id
    ids, pixels = torch.tensor([[1, tag, tag, 5, tag, 6]]), torch.randn(3, 1, 3, *flamingo.vision.preprocess.size)
    with torch.no_grad():
        expected, actual = (one(ids, pixel_values=pixels).logits for one in (model, loaded))
    assert torch.equal(actual, expected)
    assert actual.shape[-1] == loaded.config.vocab_size
    given = {"pixel_values": pixels, "max_new_tokens": 3, "num_beams": 2}
    assert torch.equal(loaded.generate(ids, **given), model.generate(ids, **given))


def test_a_checkpoint_in_several_files_is_loaded(tmp_path):
    """A model saved in shards computes the same, and no pickle is written."""
    model = make_model(tied=True)
    model.save_pretrained(tmp_path, max_shard_size="10KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert not list(tmp_path.glob("*.bin"))
    assert torch.equal(logits(AutoModel.from_pretrained(tmp_path)), logits(model))


def test_a_new_process_generates_the_same_tokens(tmp_path):
    """A process that knows the folder alone loads model and processor by Auto classes, without trusting remote code."""
    model = make_model()
    processor = make_processor(model)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    (image,) = make_images(1)
    torch.save(image, tmp_path / "image.pt")
    script = f"""
import torch, flamingo_blocks.hf
from transformers import AutoModelForImageTextToText, AutoProcessor
model = AutoModelForImageTextToText.from_pretrained({str(tmp_path)!r})
processor = AutoProcessor.from_pretrained({str(tmp_path)!r})
inputs = processor(text="<image>a photo of", images=[torch.load({str(tmp_path / "image.pt")!r})], return_tensors="pt")
print(model.generate(**inputs, max_new_tokens=6).tolist())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    inputs = processor(text="<image>a photo of", images=[image])
    assert json.loads(done.stdout) == model.generate(**inputs, max_new_tokens=6).tolist()


def test_the_names_in_the_checkpoint_are_a_contract(tmp_path):
    """The file holds exactly the names of the list, each once."""
    make_model(tied=True).save_pretrained(tmp_path)
    assert sorted(load_file(tmp_path / "model.safetensors")) == json.loads(KEYS.read_text())


def test_frozen_parts_are_frozen_again(tmp_path):
    """What trained before saving trains after loading, and nothing else; also where it is not the usual parts."""
    model = make_model()
    names = [name for name, weight in model.named_parameters() if weight.requires_grad]
    assert names
    assert not any(name.startswith(("flamingo.lm.", "flamingo.vision.")) for name in names)
    model.save_pretrained(tmp_path / "usual")
    model.flamingo.resampler.requires_grad_(False)
    model.flamingo.lm.requires_grad_(True)
    model.save_pretrained(tmp_path / "other")
    for folder in ("usual", "other"):
        loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path / folder)
        trained = {name for name, weight in loaded.named_parameters() if weight.requires_grad}
        parts = {name.split(".")[1] for name in trained}
        assert (
            parts == {"usual": {"resampler", "blocks", "token_rows"}, "other": {"blocks", "token_rows", "lm"}}[folder]
        )
        assert (trained == set(names)) == (folder == "usual")
        loaded.train()
        assert loaded.flamingo.lm.training == (folder == "other")


def test_a_part_frozen_by_half_comes_back_so(tmp_path):
    """Weights that do not train inside a part that does, and those that do inside a language model that does not."""
    model = make_model()
    model.flamingo.resampler.latents.requires_grad_(False)
    model.flamingo.blocks["0"].requires_grad_(False)
    model.flamingo.lm.lm_head.requires_grad_(True)
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    model.save_pretrained(tmp_path)
    loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path)
    assert {name for name, weight in loaded.named_parameters() if weight.requires_grad} == trained
    loaded.config.frozen_weights = ["no.such.weight"]
    with pytest.raises(CheckpointError, match=r"no\.such\.weight"):
        FlamingoForConditionalGeneration(loaded.config)


def test_a_damaged_config_is_told_by_its_part():
    """A description without its arguments, or an argument that the model does not have, is a `CheckpointError`."""
    for part, value in (("tower", {"class": "x"}), ("resampler", {}), ("options", {"lm": 1}), ("lm", {"class": 5})):
        config = FlamingoConfig.from_dict(make_model().config.to_dict())
        setattr(config, part, value)
        with pytest.raises(CheckpointError, match={"tower": "vision|class"}.get(part, part)):
            FlamingoForConditionalGeneration(config)


def test_dtype_is_that_of_the_call(tmp_path):
    """`dtype=` casts the model as it casts others; rows of new tokens train and stay in float32."""
    make_model().save_pretrained(tmp_path)
    loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    kinds = {name.split(".")[1]: weight.dtype for name, weight in loaded.named_parameters()}
    assert kinds.pop("token_rows") == torch.float32
    assert set(kinds.values()) == {torch.bfloat16}
    assert logits(loaded).dtype == torch.bfloat16
    whole = logits(FlamingoForConditionalGeneration.from_pretrained(tmp_path))
    torch.testing.assert_close(logits(loaded).float(), whole, atol=0.15, rtol=0.05)


def test_trained_parts_stay_in_float32_beside_a_frozen_bfloat16_model(tmp_path):
    """Each part comes back in the dtype that it was saved in."""
    model = make_model()
    model.flamingo.lm.bfloat16()
    model.flamingo.vision.bfloat16()
    model.save_pretrained(tmp_path)
    loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path)
    weights = dict(loaded.named_parameters())
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16, torch.float32}
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())
    assert all(weights[name].dtype == weight.dtype for name, weight in model.named_parameters())
    assert logits(loaded).dtype == torch.bfloat16


@pytest.mark.parametrize("tied", (False, True))
def test_a_device_map_is_followed(tmp_path, tied):
    """`device_map` puts parts where it says, layers and tower on disk among them, and the model computes the same."""
    model = make_model(tied=tied)
    model.save_pretrained(tmp_path)
    near = ("resampler", "blocks", "token_rows", "lm.lm_head", "lm.model.embed_tokens", "lm.model.norm",
            "lm.model.rotary_emb")  # fmt: skip
    spread = {f"flamingo.{part}": "cpu" for part in near}
    spread |= {"flamingo.vision": "disk", "flamingo.lm.model.layers": "disk"}
    for device_map in ("cpu", "auto", spread):
        loaded = FlamingoForConditionalGeneration.from_pretrained(
            tmp_path, device_map=device_map, offload_folder=str(tmp_path / "offloaded")
        )
        assert torch.equal(logits(loaded), logits(model))
    assert next(loaded.flamingo.lm.model.layers.parameters()).is_meta


@pytest.mark.parametrize("harm", ("missing", "unknown", "shape"))
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path, harm):
    """A weight too few, too many or of another shape is an error that names it, never a weight drawn anew."""
    make_model().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    name = "flamingo.blocks.0.attention.q_proj.weight"
    if harm == "missing":
        del tensors[name]
    elif harm == "unknown":
        name = "flamingo.blocks.9.attention.q_proj.weight"
        tensors[name] = torch.zeros(2)
    else:
        tensors[name] = tensors[name][:3].clone()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises((CheckpointError, RuntimeError), match="mismatch|flamingo.blocks"):
        FlamingoForConditionalGeneration.from_pretrained(tmp_path)


def test_a_class_from_elsewhere_is_refused():
    """A config that names a class outside the two libraries builds nothing, and imports nothing."""
    for part in ("lm", "tower", "resampler"):
        config = FlamingoConfig.from_dict(make_model().config.to_dict())
        setattr(config, part, {"arguments": {}, "class": "no_such_package.module:Tower"})
        with pytest.raises(CheckpointError, match="no_such_package.module:Tower (is no class|cannot)"):
            FlamingoForConditionalGeneration(config)


class WithTable(nn.Module):
    """An encoder whose table no file holds, as towers with rotations have."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, kernel_size=8, stride=8)
        self.register_buffer("table", torch.full((16, 1, 1), 0.5), persistent=False)

    def forward(self, pixels):
        return self.patches(pixels) + self.table


def test_a_tower_of_ones_own_is_passed_when_loading(tmp_path):
    """A tower that no config can build is given as `vision=`; its weights are loaded, its unsaved buffers kept."""
    model = make_model()
    flamingo = model.flamingo
    flamingo.vision = CallableTower(WithTable(), image_size=SIDE)
    front = FlamingoForConditionalGeneration.from_flamingo(flamingo)
    front.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="vision="):
        FlamingoForConditionalGeneration.from_pretrained(tmp_path)
    tower = CallableTower(WithTable(), image_size=SIDE)
    loaded = FlamingoForConditionalGeneration.from_pretrained(tmp_path, vision=tower)
    assert torch.equal(logits(loaded), logits(front))


def test_a_front_shares_the_weights_of_its_model():
    """`from_flamingo` copies nothing and draws nothing anew, and `.flamingo` is the model itself."""
    flamingo = make_model().flamingo
    flamingo.lm.model.layers[0].mlp.up_proj = nn.Linear(16, 32, bias=False)  # a layer that transformers has not seen
    before = {name: weight.clone() for name, weight in flamingo.state_dict().items()}
    front = FlamingoForConditionalGeneration.from_flamingo(flamingo)
    assert front.flamingo is flamingo
    assert all(torch.equal(weight, before[name]) for name, weight in flamingo.state_dict().items())
    with torch.no_grad():
        assert torch.equal(logits(front), flamingo(IDS, pixels=PIXELS).logits)


def test_a_config_alone_gives_a_model_with_fresh_weights():
    """`from_config` builds the described model, its gates shut and each new layer drawn as its class draws it."""
    config = FlamingoConfig.from_dict(make_model().config.to_dict())
    model = AutoModelForImageTextToText.from_config(config)
    block = model.flamingo.blocks["0"]
    assert float(block.attention_gate.gate.detach()) == 0
    assert float(block.attention.q_proj.weight.detach().std()) > 0.05
    assert not any(weight.requires_grad for weight in model.flamingo.lm.parameters())
    assert model.state_dict().keys() == make_model().state_dict().keys()


def test_two_sub_configs_are_enough():
    """The parts between two models get the paper's form, and token ids follow the table."""
    model = make_model()
    parts = {"text_config": model.config.text_config, "vision_config": model.config.vision_config}
    config = FlamingoConfig(**parts, every=2, num_latents=5)
    assert (config.media_token_id, config.end_token_id, config.vocab_size) == (TAG, END, TAG + 2)
    assert (config.hidden_size, config.num_hidden_layers, config.image_token_id) == (16, 2, TAG)
    assert config.tie_word_embeddings == config.text_config.tie_word_embeddings
    made = FlamingoForConditionalGeneration(config).eval()
    assert list(made.flamingo.blocks) == ["0"]
    assert made.get_image_features(PIXELS).shape == (2, 5, 16)
    assert logits(made).shape == (2, 6, TAG + 2)
    with pytest.raises(ValueError, match="every is 0"):
        FlamingoConfig(**parts, every=0)


def test_a_config_of_plain_values_is_the_config(tmp_path):
    """A config is written and read without loss, by name of its type."""
    config = make_model().config
    config.save_pretrained(tmp_path)
    read = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(read, FlamingoConfig)
    apart = {"transformers_version", "_name_or_path"}
    values = [{name: value for name, value in one.to_dict().items() if name not in apart} for one in (read, config)]
    assert values[0] == values[1]
    with pytest.raises(ValueError, match="'no_such'"):
        FlamingoConfig(text_config={"model_type": "no_such"})


def test_a_language_model_from_elsewhere_is_refused_and_left_alone():
    """A front is for the models of transformers; another one gets its layers back without a hook."""

    class Own(type(make_lm())):
        pass

    lm = Own(make_lm().config)
    blocks = {0: GatedCrossAttentionBlock(16, vision_dim=8, num_heads=2)}
    hooks = [len(module._forward_pre_hooks) for module in lm.modules()]
    with pytest.raises(ValueError, match="Flamingo.save_pretrained"):
        FlamingoForConditionalGeneration.from_parts(lm, blocks=blocks, media_token_id=5)
    assert [len(module._forward_pre_hooks) for module in lm.modules()] == hooks


def test_a_processor_comes_back_with_its_model(tmp_path):
    """`AutoProcessor` gives the processor with every setting, and it makes the same batches."""
    model = make_model()
    processor = make_processor(model, end_before_first_media=False, chat_template="{{ messages[0].content }}")
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is FlamingoProcessor
    assert loaded.to_dict() == processor.to_dict()
    assert loaded.chat_template == processor.chat_template
    asked = {"text": ["a<image>cat", "the"], "images": make_images(1)}
    given, expected = loaded(**asked), processor(**asked)
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], expected[name]) for name in given)


def test_the_model_card_tells_parts_gates_and_how_to_load(tmp_path):
    """A card is written on save with sizes, gates and base models, unless a card of one's own is there."""
    model = make_model()
    model.config.base_models = {"lm": "someone/llama", "vision": "/a/folder"}
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "- someone/llama\n" in card
    assert "- /a/folder" not in card
    trained = sum(weight.numel() for weight in model.flamingo.blocks.parameters())
    assert f"| gated blocks | `GatedCrossAttentionBlock` | {trained:,} | {trained:,} |" in card
    assert "| 1 | 0.6044 | 0.3799 |" in card
    assert "import flamingo_blocks.hf" in card
    model.flamingo.blocks["1"].attention_gate.gate.data.zero_()
    model.save_pretrained(tmp_path)
    assert "| 1 | 0.0000 | 0.3799 |" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("my own")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own"
    model.save_pretrained(tmp_path / "by a second process", is_main_process=False)
    assert not (tmp_path / "by a second process" / "README.md").exists()


def test_a_plain_flamingo_names_what_loads_a_front(tmp_path):
    """The folder has another form; one that is neither gets no such hint."""
    model = make_model()
    model.save_pretrained(tmp_path / "front")
    with pytest.raises(CheckpointError, match=r"import flamingo_blocks.hf, then AutoModelForImageTextToText.from_pret"):
        Flamingo.from_pretrained(tmp_path / "front")
    make_lm().save_pretrained(tmp_path / "lm")
    for folder in ("lm", "nowhere"):
        with pytest.raises(CheckpointError, match=r"wanted a folder written by Flamingo.save_pretrained(\n|$)"):
            Flamingo.from_pretrained(tmp_path / folder)
