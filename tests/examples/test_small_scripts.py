"""The scripts of one idea each: they print what their first lines say, and stay small."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = [
    "closed_gates", "compare_backends", "freeze_and_train", "one_block_by_hand", "resample_video", "see_the_mask",
]  # fmt: skip


def said(text: str) -> list[str]:
    """The indented lines of a docstring: what it says is printed."""
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a script as the shell does, and give its docstring and what it printed."""

    def run_script(name: str, *arguments: str) -> tuple[str, list[str]]:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        with torch.random.fork_rng(devices=[]):
            names = runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
        return names["__doc__"], capsys.readouterr().out.splitlines()

    return run_script


@pytest.mark.parametrize("name", sorted(set(SMALL) - {"compare_backends"}))
def test_a_script_prints_what_it_says(name, run):
    """A small script prints the lines that stand indented in its docstring, and nothing else."""
    docstring, printed = run(name)
    assert said(docstring)
    assert printed == said(docstring)


def test_backends_agree(run):
    """Every backend is a line: its differences, which are small, or why it is refused; the reference's are zero."""
    docstring, printed = run("compare_backends")
    assert said(docstring)[0] in printed
    lines = [re.fullmatch(r"\w+ +(?:(?P<out>\S+)  (?P<gradients>\S+)|refused: .+)", line) for line in printed]
    assert all(lines)
    bound = 5e-2 if torch.cuda.is_available() else 1e-4
    ran = [line for line in lines if line["out"]]
    assert len(ran) >= 3
    assert all(float(line["out"]) < bound and float(line["gradients"]) < 20 * bound for line in ran)


@pytest.mark.parametrize(
    ("options", "line"), [(("--scope", "all"), "  two        # #"), (("--direction", "next"), "  two        . .")]
)
def test_the_mask_of_other_options(options, line, run):
    """The drawing follows the options."""
    assert line in run("see_the_mask", *options)[1]


@pytest.mark.parametrize("name", SMALL)
def test_a_small_script_is_small(name):
    """A script of one idea has less than 60 lines."""
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60


def test_every_example_is_listed():
    """The list names each script, notebook and folder of `examples/`, and no other."""
    listed = set(re.findall(r"^- `([^`]+)`", (EXAMPLES / "README.md").read_text(), flags=re.MULTILINE))
    there = {f"{path.name}/" if path.is_dir() else path.name for path in EXAMPLES.iterdir()}
    assert listed == {name for name in there if name.endswith((".py", ".ipynb", "/")) and name != "__pycache__/"}
