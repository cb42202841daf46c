"""The reference pages name what there is."""

import argparse
import inspect
import re
from pathlib import Path

import pytest

from flamingo_blocks.cli import convert, demo, generate, main, train
from flamingo_blocks.cli import inspect as inspect_command
from flamingo_blocks.interop import FAMILIES

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
COMMANDS = {"demo": demo, "generate": generate, "inspect": inspect_command, "convert": convert, "train": train}
PARTS = {"shapes", "lm", "vision", "flamingo"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_page_names_every_word_of_a_command(name):
    """Each word that a command takes stands in its section, and no other."""
    page = (REFERENCE / "command-line.md").read_text()
    (section,) = re.findall(rf"^## {name}\n(.*?)(?:^## |\Z)", page, re.MULTILINE | re.DOTALL)
    commands = argparse.ArgumentParser().add_subparsers()
    COMMANDS[name].add_to(commands)
    words = {word for action in commands.choices[name]._actions for word in action.option_strings} - {"-h", "--help"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", section)) == words


@pytest.mark.parametrize("name", FAMILIES)
def test_the_page_names_every_option_of_a_family(name):
    """Those of loading and those of export, each in its column."""
    rows = [line.split("|") for line in (REFERENCE / "interop.md").read_text().splitlines() if line.startswith("| `")]
    (row,) = [cells for cells in rows if f"`{name}`" in cells[1]]
    family = FAMILIES[name]
    for cell, way in ((row[2], family.plan), (row[3], family.entries)):
        named = {word.partition("=")[0] for word in re.findall(r"`([a-z_]+(?:=[^`]*)?)`", cell)}
        wanted = inspect.signature(way).parameters.keys() - PARTS
        assert named - {"idefics_parts", "mllama_parts", "lm"} == wanted


SLIPS = {
    "no-such": "'no-such' is none of doctor, ",
    "convert": "the following arguments are required",
    "convert a --out b --dtype x": "'x' is none of auto, ",
    "convert a --out b --lm-rows 0": "'0' is no whole number above 0",
    "inspect a --option x": "'x' is not of the form NAME=VALUE",
    "inspect a --no-such": "there is no --no-such",
    "generate a": "the following arguments are required: --prompt",
    "demo --threads x": "--threads",
}


@pytest.mark.parametrize("typed", SLIPS)
def test_a_slip_is_one_line(capsys, typed):
    """Words that no command takes end with status 2, what is wrong and where help is."""
    with pytest.raises(SystemExit) as ended:
        main(typed.split())
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert (ended.value.code, printed.out) == (2, "")
    assert re.fullmatch(r"flamingo-blocks[a-z ]*: error: .*; see flamingo-blocks[a-z ]* --help", line)
    assert SLIPS[typed] in line
