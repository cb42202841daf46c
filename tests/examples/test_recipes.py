"""The recipes: each is planned without its weights, and those for large models train small ones of the same kinds."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from flamingo_blocks.cli import main
from flamingo_blocks.models import Flamingo
from flamingo_blocks.training import call_recipe, load_recipe, plan_config
from flamingo_blocks.vision import TransformersTower
from tests.hf.tiny import make_tokenizer
from tests.training.run_configs import write_corpus

RECIPES = Path(__file__).parents[2] / "examples" / "recipes"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Pages, pairs and clips, where the recipes look for them; clips are pairs here."""
    folder = tmp_path_factory.mktemp("data")
    write_corpus(folder)
    (folder / "documents").mkdir()
    (folder / "pages").rename(folder / "documents" / "shards")
    for name in ("long_pairs", "clips"):
        (folder / name).symlink_to(folder / "pairs")
    return folder


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A language model of each kind with a tokenizer, and a tower, saved."""
    folder = tmp_path_factory.mktemp("parts")
    tokenizer = make_tokenizer()
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    models = {
        "opt": OPTForCausalLM(
            OPTConfig(ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=300, **sizes, **ids)
        ),
        "llama": LlamaForCausalLM(LlamaConfig(intermediate_size=32, **sizes, **ids)),
        "clip": CLIPVisionModel(CLIPVisionConfig(intermediate_size=32, image_size=16, patch_size=8, **sizes)),
    }
    for name, model in models.items():
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "trained", "frozen"), [("open_flamingo_3b", 1.18e9, 1.62e9), ("flamingo_9b", 1.49e9, 7.04e9)]
)
def test_a_large_model_is_planned_without_its_weights(name, trained, frozen):
    """Parameters of the kinds that the recipe names, with all data sets of the paper."""
    plan = plan_config(call_recipe(load_recipe(str(RECIPES / f"{name}.py"))), world_size=64)
    assert sum(plan.trained.values()) == pytest.approx(trained, rel=0.01)
    assert sum(plan.frozen.values()) == pytest.approx(frozen, rel=0.01)
    assert plan.fits


@pytest.mark.parametrize(
    ("name", "lm", "words"),
    [("open_flamingo_3b", "opt", ["pages=2", "pairs=4", "parts=2"]), ("flamingo_9b", "llama", ["divide=64"])],
)
def test_a_recipe_trains_parts_of_the_same_kinds(name, lm, words, data, parts, tmp_path, capsys):
    """By the command, on pages and pairs in shards; the model that is saved is read again beside its frozen parts."""
    settings = [f"data={data}", f"lm={parts / lm}", f"vision={parts / 'clip'}", f"folder={tmp_path}", "steps=2"]
    settings += ["workers=0", "precision=float32", *words]
    assert main(["train", str(RECIPES / f"{name}.py"), *settings]) == 0, capsys.readouterr().err
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(loss > 0 for line in lines for loss in line["losses"].values())
    kinds = {"opt": OPTForCausalLM, "llama": LlamaForCausalLM}
    tower = TransformersTower(CLIPVisionModel.from_pretrained(parts / "clip"))
    model = Flamingo.from_pretrained(tmp_path / "model", lm=kinds[lm].from_pretrained(parts / lm), vision=tower)
    assert len(model.blocks) == (2 if name == "open_flamingo_3b" else 1)


def fine_tuned(data, parts, tmp_path, *words):
    """A model of the recipe for 9B after a step, and again after two steps of fine-tuning; what the second has."""
    shared = [f"lm={parts / 'llama'}", f"vision={parts / 'clip'}", "precision=float32"]
    first = [f"data={data}", f"folder={tmp_path / 'first'}", "steps=1", "workers=0", "divide=64", *shared]
    assert main(["train", str(RECIPES / "flamingo_9b.py"), *first]) == 0
    second = [f"model={tmp_path / 'first' / 'model'}", f"pairs={data / 'pairs'}", f"folder={tmp_path / 'second'}"]
    second += ["steps=2", "rows=4", "lr=0.01", *shared, *words]
    assert main(["train", str(RECIPES / "fine_tune.py"), *second]) == 0
    return load_file(tmp_path / "first" / "model" / "model.safetensors"), load_file(
        tmp_path / "second" / "model" / "model.safetensors"
    )


def test_fine_tuning_moves_what_it_is_told_to(data, parts, tmp_path):
    """The tower too, by default, whose weights are then in the file; nothing of the language model."""
    before, after = fine_tuned(data, parts, tmp_path, f"cache={tmp_path / 'none'}", "train=blocks,resampler")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("blocks."))
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("token_rows."))


@pytest.mark.parametrize(
    ("train", "prefix"), [("blocks,resampler,tower", "vision."), ("new_tokens,lora", "lm.")], ids=["tower", "lora"]
)
def test_fine_tuning_keeps_other_parts_in_the_file(train, prefix, data, parts, tmp_path):
    """Weights of the tower, or adapters of the language model, which the first model's file has not."""
    before, after = fine_tuned(data, parts, tmp_path, f"train={train}")
    assert not any(name.startswith(prefix) for name in before)
    assert any(name.startswith(prefix) for name in after)


def test_the_demo_goes_on_as_a_run(tmp_path):
    """Steps are numbered on, parts are those that are there, and the score is asked for at its steps."""
    words = ["tower_steps=2", "lm_steps=2", "score_every=2", "episodes=4", "save_every=1"]
    recipe = str(RECIPES / "demo.py")
    assert main(["train", recipe, f"folder={tmp_path / 'whole'}", "steps=4", *words]) == 0
    (tmp_path / "parted").mkdir()
    (tmp_path / "parted" / "parts.pt").write_bytes((tmp_path / "whole" / "parts.pt").read_bytes())
    for folder, steps in (("parted", 2), ("parted", 4)):
        assert main(["train", recipe, f"folder={tmp_path / folder}", f"steps={steps}", *words]) == 0
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("whole", "parted")]
    first, second = ([json.loads(line) for line in each] for each in lines)
    assert first[0]["losses"] == second[0]["losses"]
    assert [line["step"] for line in second] == [0, 1, 2, 3]
    assert {f"few_shot/{shots} shots" for shots in (0, 16)} <= second[3]["measured"].keys()
