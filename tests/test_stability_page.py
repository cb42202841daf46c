"""The page on stability says what the code holds: formats on disk, bounds and pins."""

import ast
import importlib
import re
import tomllib
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "reference" / "stability.md").read_text()


def table(title: str) -> list[list[str]]:
    """The rows of the table under a heading, its head left out."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


FORMATS = {row[3].strip("`"): ast.literal_eval(row[2].strip("`")) for row in table("Formats on disk")}


def versions_in_the_code() -> set[str]:
    """Every constant of the sources that is the version of a format."""
    found = set()
    for path in sorted((ROOT / "src").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for line in path.read_text().splitlines():
            if named := re.match(r"((?:[A-Z]+_)*VERSION)\b.*? = ", line):
                found.add(f"{module}.{named[1]}")
    return found


@pytest.mark.parametrize("name", [name for name in FORMATS if name.startswith("flamingo_blocks")])
def test_a_format_has_the_version_on_the_page(name):
    """The number in the table is that of the code."""
    module, _, constant = name.rpartition(".")
    assert getattr(importlib.import_module(module), constant) == FORMATS[name]


def test_no_format_is_missing():
    """Each version of a format in the sources has its row, and each row a version."""
    assert versions_in_the_code() == {name for name in FORMATS if name.startswith("flamingo_blocks")}


def test_the_benchmarks_have_theirs():
    """Results of the benchmarks are read in the version on the page alone."""
    run = importlib.import_module("benchmarks.results").Run
    assert get_args(get_type_hints(run)["schema_version"]) == (FORMATS["benchmarks.results.Run.schema_version"],)


def test_bounds_and_pins_are_those_of_the_project():
    """What is taken stands in pyproject.toml, what is run in constraints.txt, and the floor in its session."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    rows = {row[0]: row[1:] for row in table("What it runs on")}
    assert rows.pop("Python")[0].strip("`") == project["requires-python"]
    for name, (taken, run) in rows.items():
        bounds = {each for each in asked if re.fullmatch(rf"{name}[<>=].*", each)}
        assert bounds == {f"{name}{taken.strip('`')}"}
        pin, *floor = re.findall(r"`(\d[\d.]*)`", run)
        assert f"{name}=={pin}" in pins
        assert all(f'"{name}=={number}"' in (ROOT / "noxfile.py").read_text() for number in floor)
