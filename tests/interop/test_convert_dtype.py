"""`flamingo-blocks convert --dtype`: parts that are built from a config are of the checkpoint's dtype."""

import pytest
import torch

from flamingo_blocks import Flamingo
from flamingo_blocks.interop import idefics_parts, mllama_parts, write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from tests.interop.test_commands import run


@pytest.mark.parametrize("family", ["idefics", "mllama"])
@pytest.mark.parametrize(
    ("words", "dtype"),
    [([], torch.bfloat16), (["--dtype", "float32"], torch.float32), (["--dtype", "float16"], torch.float16)],
)
def test_parts_of_a_folder_keep_its_dtype(tmp_path, capsys, family, words, dtype):
    """Language model and tower are built in the checkpoint's own dtype, or in the one asked for; blocks keep it."""
    from tests.interop import transformers_peers as peers

    model = {"idefics": peers.tiny_idefics, "mllama": peers.tiny_mllama}[family]()
    model.bfloat16().save_pretrained(tmp_path / "theirs")
    assert run(capsys, "convert", tmp_path / "theirs", "--out", tmp_path / "ours", *words)[0] == 0
    flamingo = Flamingo.from_pretrained(tmp_path / "ours")
    assert {weight.dtype for weight in [*flamingo.lm.parameters(), *flamingo.vision.parameters()]} == {dtype}
    assert {weight.dtype for weight in flamingo.blocks.parameters()} == {torch.bfloat16}
    if dtype != torch.float16:  # which has fewer digits at the ends
        back = tmp_path / "model.safetensors"
        assert run(capsys, "convert", tmp_path / "ours", "--to", family, "--out", back)[0] == 0
        assert back.read_bytes() == (tmp_path / "theirs" / "model.safetensors").read_bytes()


def test_a_dtype_is_for_parts_that_are_built(tmp_path, capsys):
    """Where the language model is named, it has a dtype already."""
    write_checkpoint(tiny_open_flamingo(), tmp_path / "theirs.pt")
    arguments = [tmp_path / "theirs.pt", "--out", tmp_path / "ours", "--lm", "unread", "--dtype", "bfloat16"]
    status, _, error = run(capsys, "convert", *arguments)
    assert (status, "--dtype is for folders of IDEFICS" in error) == (1, True)


@pytest.mark.parametrize("family", ["idefics", "mllama"])
@pytest.mark.parametrize("named", ["lm", "vision"])
def test_a_dtype_is_not_for_parts_that_are_named(tmp_path, capsys, family, named):
    """A named part has a dtype of its own, so `--dtype` beside it would say something that does not happen."""
    from tests.interop import transformers_peers as peers

    {"idefics": peers.tiny_idefics, "mllama": peers.tiny_mllama}[family]().save_pretrained(tmp_path / "theirs")
    arguments = [tmp_path / "theirs", "--out", tmp_path / "ours", f"--{named}", "unread", "--dtype", "float16"]
    status, _, error = run(capsys, "convert", *arguments)
    assert (status, f"and --{named} names another, which has a dtype of its own; omit" in error) == (1, True)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("family", ["idefics", "mllama"])
def test_a_named_part_is_not_built_besides(tmp_path, capsys, monkeypatch, family):
    """Of a folder whose config tells both parts only those are built that the command does not name."""
    import transformers

    from tests.interop import transformers_peers as peers

    peer = {"idefics": peers.tiny_idefics, "mllama": peers.tiny_mllama}[family]()
    peer.save_pretrained(tmp_path / "theirs")
    parts = {"idefics": idefics_parts, "mllama": mllama_parts}[family]
    parts(peer.config)["lm"].save_pretrained(tmp_path / "lm")
    assert not {"lm", "vision"} & parts(peer.config, skip=("lm", "vision")).keys()

    def refuse(*arguments, **options):
        raise AssertionError("built")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_config", refuse)
    arguments = ["convert", tmp_path / "theirs", "--lm", tmp_path / "lm", "--out", tmp_path / "ours"]
    assert run(capsys, *arguments)[0] == 0
    monkeypatch.undo()
    back = tmp_path / "model.safetensors"
    assert run(capsys, "convert", tmp_path / "ours", "--to", family, "--out", back)[0] == 0
    assert back.read_bytes() == (tmp_path / "theirs" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("name", ["media_token_id", "end_token_id"])
def test_an_id_is_said_once(tmp_path, capsys, name):
    """By its own word or as an option: both at once are refused, the same value too."""
    write_checkpoint(tiny_open_flamingo(), tmp_path / "theirs.pt")
    word = f"--{name.replace('_', '-')}"
    arguments = [tmp_path / "theirs.pt", "--lm", "unread", "--out", tmp_path / "ours", word, 6]
    status, _, error = run(capsys, "convert", *arguments, "--option", f"{name}=6")
    assert status == 1
    assert error.endswith(f"{word} and --option {name}= are one option, and both were given; omit one of them")
