"""A checkpoint of any kind is written as any other kind, with the same tensors."""

from collections import OrderedDict

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from flamingo_blocks.cli import main
from flamingo_blocks.interop import open_checkpoint, read_record, write_checkpoint, write_record
from flamingo_blocks.interop.example import tiny_open_flamingo
from tests.interop.foreign_models import write_shards
from tests.language_models import make_language_model

TENSORS = {
    "perceiver.latents": torch.arange(6.0).reshape(2, 3),
    "lang_encoder.gate": torch.ones(1, dtype=torch.bfloat16),
    "perceiver.norm.weight": torch.arange(3),
}


def of_torch(tensors):
    """A state dict as a module gives it, with the versions of its parts."""
    versions = OrderedDict({"": {"version": 1}})
    made = OrderedDict(tensors)
    made._metadata = versions
    return made


SOURCES = {
    "plain.pt": lambda path: torch.save(dict(TENSORS), path),
    "state_dict.pt": lambda path: torch.save(of_torch(TENSORS), path),
    "nested.bin": lambda path: torch.save({"model_state_dict": of_torch(TENSORS), "epoch": 3}, path),
    "bare.safetensors": lambda path: save_file(TENSORS, path),
    "said.safetensors": lambda path: save_file(TENSORS, path, metadata={"format": "pt", "versions": "mine"}),
    "shards": lambda path: write_shards(TENSORS, path),
}


@pytest.mark.parametrize("recorded", [False, True], ids=["opened", "recorded"])
@pytest.mark.parametrize("target", ["new.safetensors", "new.pt", "new.bin", "new"])
@pytest.mark.parametrize("source", [*SOURCES, "in memory"])
def test_any_kind_is_written_as_any_other(tmp_path, source, target, recorded):
    """With the header of its own kind, or that of the source where this is of the same kind, also by way of the record
    in a converted folder.
    """
    if source == "in memory":
        like = open_checkpoint(of_torch(TENSORS))
    else:
        SOURCES[source](tmp_path / source)
        like = open_checkpoint(tmp_path / source)
    if recorded:
        write_record(tmp_path, like, family="otter", options={}, leave_out=(), kept=())
        like = read_record(tmp_path).like
    write_checkpoint(TENSORS, tmp_path / target, like=like)
    back = open_checkpoint(tmp_path / target)
    assert {name: facts.dtype for name, facts in back.tensors.items()} == {n: t.dtype for n, t in TENSORS.items()}
    assert all(torch.equal(back.read(name), tensor) for name, tensor in TENSORS.items())
    if target == "new.safetensors":
        with safe_open(tmp_path / target, framework="pt") as file:
            found = file.metadata()
        kept = {"bare.safetensors": None, "said.safetensors": {"format": "pt", "versions": "mine"}}
        assert found == kept.get(source, {"format": "pt"})


def test_the_command_writes_the_other_kind(tmp_path):
    """A folder that was made of a state dict in a `.pt` file goes to a `.safetensors` file, and opens as the same."""
    lm = make_language_model("opt")
    lm.save_pretrained(tmp_path / "opt")
    checkpoint = tiny_open_flamingo(lm=lm)
    torch.save(of_torch(checkpoint), tmp_path / "theirs.pt")
    back = ["--to", "open_flamingo", "--out", tmp_path / "back.safetensors"]
    for words in ([tmp_path / "theirs.pt", "--out", tmp_path / "ours"], [tmp_path / "ours", *back]):
        assert main([str(word) for word in ["convert", *words, "--lm", tmp_path / "opt"]]) == 0
    opened = open_checkpoint(tmp_path / "back.safetensors")
    assert opened.shapes.keys() == checkpoint.keys()
    assert all(torch.equal(opened.read(name), tensor) for name, tensor in checkpoint.items())
