"""`flamingo-blocks doctor`, called as the shell calls it."""

import json
from importlib.metadata import version

import pytest
import torch

from flamingo_blocks.cli import doctor, main
from flamingo_blocks.cli._installed import installed_extras, packages_of_extras
from flamingo_blocks.ops import available_backends
from flamingo_blocks.testing import MachineReport


def test_a_machine_is_told_in_tables(capsys):
    """Versions, devices, each backend with its reason, the laws, and what each extra brings."""
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert version("torch") in printed
    assert all(f"  {name} " in printed for name in available_backends("cpu", torch.float32))
    assert "runs on CUDA, not on cpu" in printed
    assert "laws on cpu in float32" in printed
    assert "  hf  " in printed


def test_scripts_get_one_object(capsys):
    """With --json there is nothing else on standard output."""
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert found["checked"][0]["backends"]["reference"] == "ok"
    assert set(found["checked"][0]["laws"].values()) == {"ok"}


def test_a_law_that_fails_is_told_and_is_the_exit_status(monkeypatch, capsys):
    """What was found stands below the count."""
    broken = MachineReport(device="cpu", dtype="float32", backends={"sdpa": "ok"}, laws={"a": "ok", "b": "off by 1"})
    monkeypatch.setattr(doctor, "check_machine", lambda *_, **__: broken)
    assert main(["doctor"]) == 1
    printed = capsys.readouterr().out
    assert "1 of 2 hold" in printed and "  b: off by 1" in printed


@pytest.mark.parametrize("extra", ("dev", "docs", "test", "bench"))
def test_extras_of_developers_are_left_out(extra):
    """Who uses the library has no need of them."""
    assert extra not in installed_extras()


def test_a_package_that_is_missing_has_no_version():
    """The extra that brings it is named with it."""
    found = packages_of_extras(['torch >=2 ; extra == "one"', "no-such-package; extra == 'one'", "torch>=2"])
    assert found == {"one": {"torch": version("torch"), "no-such-package": None}}
