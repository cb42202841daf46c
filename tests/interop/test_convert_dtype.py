"""`flamingo-blocks convert --dtype`: parts that are built from a config are of the checkpoint's dtype."""

import pytest
import torch

from flamingo_blocks import Flamingo
from flamingo_blocks.interop import write_checkpoint
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
