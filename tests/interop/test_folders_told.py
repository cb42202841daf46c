"""What `inspect` and `convert` say of folders that are nearly what they take."""

import json

import pytest

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.hf import FlamingoForConditionalGeneration
from flamingo_blocks.interop import inspect_checkpoint, load_foreign
from flamingo_blocks.interop.example import tiny_open_flamingo
from flamingo_blocks.interop.write_checkpoint import write_checkpoint
from flamingo_blocks.models import build_tiny_flamingo
from tests.interop.test_command_errors import refused
from tests.interop.test_commands import run
from tests.interop.transformers_peers import tiny_idefics, tiny_mllama
from tests.language_models import make_language_model


def test_a_folder_in_the_form_of_transformers_is_called_so(tmp_path, capsys):
    """Both commands and both ways say how it is loaded, in the same words."""
    lm = make_language_model("opt")
    model = FlamingoForConditionalGeneration.from_flamingo(load_foreign(tiny_open_flamingo(lm=lm), lm=lm))
    model.save_pretrained(tmp_path / "theirs")
    folder, out = tmp_path / "theirs", ["--out", tmp_path / "new"]
    commands = [["inspect", folder], ["convert", folder, *out], ["convert", folder, "--to", "otter", *out]]
    lines = {refused(capsys, tmp_path, tmp_path, *command) for command in commands}
    assert len(lines) == 1
    assert "this one is in transformers' form: import flamingo_blocks.hf, then AutoModelForImage" in lines.pop()


def test_a_folder_of_ours_without_its_frozen_weights_is_refused(tmp_path, capsys):
    """The file is named; a folder that refers to them needs none."""
    build_tiny_flamingo().save_pretrained(tmp_path / "ours", frozen="include")
    assert run(capsys, "inspect", tmp_path / "ours")[0] == 0
    (tmp_path / "ours" / "frozen.safetensors").unlink()
    found = refused(capsys, tmp_path, tmp_path, "inspect", tmp_path / "ours")
    assert found.startswith(
        f"{tmp_path / 'ours' / 'frozen.safetensors'} is missing; the folder was not saved to its end"
    )


@pytest.mark.parametrize("model", [tiny_idefics, tiny_mllama])
def test_a_folder_whose_config_tells_its_parts_needs_none(tmp_path, capsys, model):
    """`inspect` says so; without the config `convert` names it, and not `--lm` alone."""
    model().save_pretrained(tmp_path / "theirs")
    out = run(capsys, "inspect", tmp_path / "theirs")[1]
    needs = [line for line in out.splitlines() if line.startswith("needs: ")]
    assert needs == ["needs: no language model to be named: config.json tells it"]
    (tmp_path / "theirs" / "config.json").unlink()
    found = refused(capsys, tmp_path, tmp_path, "convert", tmp_path / "theirs", "--out", tmp_path / "new")
    assert found.startswith(f"{tmp_path / 'theirs'} has no config.json, which tells language model and tower of ")


def test_a_config_without_a_version_is_damaged(tmp_path):
    """It was never written so: no other version of the library is to blame."""
    (tmp_path / "flamingo_config.json").write_text(json.dumps({"scope": "last"}))
    with pytest.raises(CheckpointError, match=r"flamingo_config\.json is damaged: it lacks \['format_version'\]"):
        inspect_checkpoint(tmp_path)


def test_a_language_model_is_no_tower(tmp_path, capsys):
    """`--vision` says which kinds of folders it takes, and gives no advice for Python code."""
    lm = make_language_model("opt")
    lm.save_pretrained(tmp_path / "opt")
    write_checkpoint(tiny_open_flamingo(lm=lm), tmp_path / "checkpoint.pt")
    named = ["--lm", tmp_path / "opt", "--vision", tmp_path / "opt", "--out", tmp_path / "new"]
    found = refused(capsys, tmp_path, tmp_path, "convert", tmp_path / "checkpoint.pt", *named)
    assert found.startswith(f"--vision names {tmp_path / 'opt'}, of class OPTModel, which is no tower")
    assert "wanted a folder or name of CLIP, SigLIP, ViT, DeiT, DINOv2 or DINOv3" in found
