"""What a saved file may name: models, our own modules and values, and nothing that runs something else."""

import json
import sys

import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from flamingo_blocks import Flamingo
from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf import FlamingoConfig
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.models.describe_module import (
    build_module,
    build_value,
    describe_module,
    describe_value,
    find_class,
)
from flamingo_blocks.vision import ImagePreprocess, TransformersTower

CONFIG = "flamingo_config.json"
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
NAMES = [
    "os:system",
    "torch:nn",
    "torch.nn:functional",
    "torch.nn:Sequential",
    "torch.nn.modules.module:torch.jit.ScriptModule",
    "transformersx:Evil",
    "transformers:TrainingArguments",
    "transformers.training_args:TrainingArguments",
    "transformers.models.llama.configuration_llama:LlamaConfig",
    "transformers.models.llama.modeling_llama:nn.Linear",
    "transformers.models.llama.modeling_llama:LlamaConfig",
    "transformers.models.llama.modeling_llama:PreTrainedModel",
    "transformers.models.llama.modeling_llama:NoSuchClass",
    "flamingo_blocks.cli.__main__:X",
    "flamingo_blocks.cli:main",
    "flamingo_blocks.models.saving:os.PathLike",
    "flamingo_blocks.models.saving:nn",
    "flamingo_blocks.models.flamingo:Flamingo.generate",
    "flamingo_blocks.vision.tower:PatchTokens",
    "flamingo_blocks.no_such_module:Name",
    "flamingo_blocks.models.saving",
    "",
    5,
]


@pytest.fixture
def folder(tmp_path):
    build_tiny_flamingo().save_pretrained(tmp_path)
    return tmp_path


def load(folder, **changes):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | changes))
    parts = build_tiny_flamingo()
    vision = parts.vision
    parts.token_rows.detach()
    return Flamingo.from_pretrained(folder, lm=parts.attachment.detach(), vision=vision)


@pytest.mark.parametrize("name", NAMES)
def test_only_modules_of_known_packages_are_built(folder, name):
    """A file that somebody sends can make nothing else run, wherever it names it."""
    before = set(sys.modules)
    resampler = json.loads((folder / CONFIG).read_text())["resampler"]
    with pytest.raises(CheckpointError):
        load(folder, resampler=resampler | {"class": name})
    with pytest.raises(CheckpointError):
        build_value({"class": name, "arguments": {}}, argument="preprocess")
    with pytest.raises(CheckpointError):
        build_module({"class": name, "arguments": {}, "config_class": "GenerationConfig", "config": {}}, argument="lm")
    if isinstance(name, str):
        with pytest.raises(CheckpointError):
            find_class(name)
    assert not {"flamingo_blocks.cli.__main__", "transformers.training_args"} & (set(sys.modules) - before)


def describe_llama():
    return json.loads(json.dumps(describe_module(LlamaForCausalLM(LlamaConfig(vocab_size=8, **SIZES)))))


def test_models_and_values_are_built_from_their_descriptions():
    """What the library itself writes is still read, the inner half of a model and an image's preparation too."""
    assert isinstance(build_module(describe_llama(), argument="lm"), LlamaForCausalLM)
    clip = CLIPVisionModel(CLIPVisionConfig(image_size=16, patch_size=8, **SIZES))
    tower = TransformersTower(clip)
    described = json.loads(json.dumps(describe_module(tower)))
    built = build_module(described, argument="vision")
    assert type(built.model) is type(tower.model)
    assert built.model.config.hidden_size == 16
    preprocess = json.loads(json.dumps(describe_value(tower.preprocess)))
    assert build_value(preprocess, argument="preprocess") == tower.preprocess
    assert isinstance(tower.preprocess, ImagePreprocess)
    assert find_class("torch.nn:Linear") is torch.nn.Linear


@pytest.mark.parametrize("name", ["GenerationConfig", "AutoModel", "logging", "CLIPConfig"])
def test_the_config_is_that_of_the_model(name):
    """Another name in its place is not asked."""
    built = build_module(describe_llama() | {"config_class": name}, argument="lm")
    assert type(built.config) is LlamaConfig


@pytest.mark.parametrize(
    "change",
    [
        {"attention": "org/name"},
        {"config": {"attn_implementation": "org/name"}},
        {"config": {"_attn_implementation": {"text_config": "org/name"}}},
        {"config": {"vision_config": {"attn_implementation": "kernels-community/x"}}},
        {"config": {"use_pretrained_backbone": True}},
    ],
)
def test_nothing_is_fetched(change):
    """A way to attend that is a kernel of somebody, and weights behind the config's back, are refused."""
    described = describe_llama()
    config = {**described["config"], **change.get("config", {})}
    with pytest.raises(CheckpointError, match="attends by|fetches weights"):
        build_module({**described, **change, "config": config}, argument="lm")
    if "config" in change:
        with pytest.raises(CheckpointError, match="attends by|fetches weights"):
            FlamingoConfig.from_dict({"text_config": config})


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("resampler", {"class": "flamingo_blocks.nn.perceiver_resampler:PerceiverResampler"}),
        ("resampler", {"arguments": {"no_such_argument": 1}}),
        ("resampler", {"arguments": {"vision_dim": "x", "dim": -1}}),
        ("resampler", {"arguments": None}),
        ("resampler", 5),
        ("lm", {}),
        ("lm", None),
        ("vision", {"class": "x"}),
        ("blocks", {"x": {}}),
        ("blocks", {"0": {"class": 5}}),
        ("blocks", []),
        ("arguments", {"no_such_argument": 1}),
        ("arguments", {}),
        ("trained", None),
    ],
)
def test_a_damaged_description_is_a_checkpoint_error(folder, part, change):
    """Whatever is missing, unknown or of another kind in it."""
    with pytest.raises(CheckpointError, match=f"{part.rstrip('s')}|the model of these parts"):
        load(folder, **{part: change})


@pytest.mark.parametrize("key", ["config_class", "attention", "generation", "buffers", "config", "class"])
def test_a_language_model_whose_description_lacks_a_key_is_named(key):
    """Each is needed; the error names the part."""
    described = describe_llama()
    del described[key]
    with pytest.raises(CheckpointError, match="the_part"):
        build_module(described, argument="the_part")
