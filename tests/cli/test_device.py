"""`--device`, in every command that has it."""

import pytest
import torch

from flamingo_blocks.cli import main
from flamingo_blocks.cli._device import device_of
from flamingo_blocks.errors import RecipeError


@pytest.fixture
def no_gpu(monkeypatch):
    """A machine with a CPU alone."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "nowhere", "--prompt", "a"],
        ["eval", "--tasks", "counting", "--model", "nowhere"],
    ],
)
@pytest.mark.parametrize("name", ["gpu", "mps", "meta", "hpu", "privateuseone", "cpu:5"])
def test_a_device_that_is_not_here_is_told(words, name, no_gpu, capsys):
    """One line names the device, those that are wanted, those that are here, and what to write; status 1."""
    if name == "mps" and torch.backends.mps.is_built():
        pytest.skip("torch makes tensors there")
    assert main([*words, "--device", name]) == 1
    said = capsys.readouterr().err
    assert f"--device is {name!r}, wanted cpu, cuda, cuda:1 or mps; this machine has cpu: name one" in said
    assert "leave --device out for cpu" in said
    assert said.count("\n") == 1


def test_no_name_is_the_best_device(no_gpu):
    """Without a name it is the CPU here."""
    assert device_of(None, error=RecipeError) == torch.device("cpu")


@pytest.mark.parametrize("name", [None, "cuda"])
def test_each_rank_has_a_gpu_of_its_own(name, monkeypatch):
    """Without a name and by that of the kind; nothing is made on any, which would take memory there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "empty", None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of(name, error=RecipeError) == torch.device("cuda:1")
    assert device_of("cuda:0", error=RecipeError) == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(RecipeError, match="this machine has cpu, cuda:0, cuda:1"):
        device_of(name, error=RecipeError)
