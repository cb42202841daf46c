"""Language models and towers that `--lm` and `--vision` name: all their weights are there, or nothing is written."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from flamingo_blocks.cli import main
from flamingo_blocks.interop import write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from tests.interop.test_command_errors import refused
from tests.interop.test_commands import clip
from tests.language_models import make_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint of open_flamingo, its language model, its tower alone and inside a CLIP of two towers."""
    from transformers import CLIPConfig, CLIPModel

    folder = tmp_path_factory.mktemp("parts")
    lm, tower = make_language_model("opt"), clip()
    lm.save_pretrained(folder / "opt")
    tower.save_pretrained(folder / "clip")
    text = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
            "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        both = CLIPModel(CLIPConfig(text_config=text, vision_config=tower.config.to_dict(), projection_dim=4))
    both.save_pretrained(folder / "both")
    write_checkpoint(tiny_open_flamingo(lm=lm, every=1, vision_dim=16), folder / "checkpoint.pt")
    return folder


def without(folder, name, ending, copy):
    """A copy of a saved model whose file lacks the first weight with that ending; the weight's name."""
    shutil.copytree(folder / name, copy)
    weights = load_file(copy / "model.safetensors")
    lost = next(weight for weight in weights if weight.endswith(ending))
    del weights[lost]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    return lost


def command(folder, tmp_path, *, lm=None, vision=None):
    parts = ["--lm", lm or folder / "opt", "--vision", vision or folder / "clip"]
    return ["convert", folder / "checkpoint.pt", *parts, "--out", tmp_path / "out" / "new"]


@pytest.mark.parametrize(
    ("word", "name", "ending"),
    [
        ("lm", "opt", "layers.1.fc1.weight"),
        ("vision", "clip", "fc1.weight"),
        ("vision", "both", "patch_embedding.weight"),
    ],
)
def test_a_part_that_lacks_a_weight_is_refused_by_its_name(folder, tmp_path, capsys, word, name, ending):
    """It would be drawn at random, and the conversion be of another model each time."""
    lost = without(folder, name, ending, tmp_path / "lost")
    found = refused(capsys, folder, tmp_path, *command(folder, tmp_path, **{word: tmp_path / "lost"}))
    part = {"lm": "language model", "vision": "vision tower"}[word]
    assert found.startswith(f"the {part} {tmp_path / 'lost'} lacks 1 weights, which would be drawn at random: ")
    assert lost.removeprefix("vision_model.") in found


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_is_missing_only_where_it_is_no_table(folder, tmp_path, capsys, tied):
    """A tied head is in no file and raises no alarm; one of its own does."""
    if tied:
        assert "lm_head.weight" not in load_file(folder / "opt" / "model.safetensors")
        assert main([str(word) for word in command(folder, tmp_path)]) == 0
        return
    shutil.copytree(folder / "opt", tmp_path / "lost")
    config = json.loads((tmp_path / "lost" / "config.json").read_text())
    (tmp_path / "lost" / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    found = refused(capsys, folder, tmp_path, *command(folder, tmp_path, lm=tmp_path / "lost"))
    assert "lacks 1 weights, which would be drawn at random: lm_head.weight;" in found


def test_a_tower_inside_a_clip_needs_its_own_weights_only(folder, tmp_path, capsys):
    """What the text tower lacks is not in the model, and no reason to refuse it."""
    without(folder, "both", "text_model.final_layer_norm.weight", tmp_path / "lost")
    assert main([str(word) for word in command(folder, tmp_path, vision=tmp_path / "lost")]) == 0


def test_a_file_that_is_cut_off_is_one_line(folder, tmp_path, capsys):
    """The error of the library that reads it does not come through as a traceback."""
    for word, name in (("lm", "opt"), ("vision", "clip")):
        shutil.copytree(folder / name, tmp_path / name)
        path = tmp_path / name / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-9])
        found = refused(capsys, folder, tmp_path, *command(folder, tmp_path, **{word: tmp_path / name}))
        assert "cannot be loaded: " in found and str(tmp_path / name) in found
