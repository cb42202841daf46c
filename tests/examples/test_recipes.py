"""The recipes: each is planned without its weights, and those for large models train small ones of the same kinds."""

import json
from pathlib import Path

import pytest
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
