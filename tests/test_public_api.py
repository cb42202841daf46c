"""The public names, which change on purpose only."""

import importlib
import inspect
import json
import pkgutil
import re
from importlib.metadata import version
from pathlib import Path

import pytest

import flamingo_blocks

SURFACE_FILE = Path(__file__).with_name("api_surface.json")
REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
SURFACE: dict[str, list[str]] = json.loads(SURFACE_FILE.read_text())
PUBLIC_NAMES = [(package, name) for package, names in SURFACE.items() for name in names]


def public_packages() -> list[str]:
    """The top package and every package below it, private ones apart."""
    walked = pkgutil.walk_packages(flamingo_blocks.__path__, "flamingo_blocks.")
    found = [module.name for module in walked if module.ispkg and "._" not in module.name]
    return ["flamingo_blocks", *found]


def test_every_public_name_is_on_the_list():
    """The names in `__all__` of the public packages are those of `api_surface.json`: a change edits both."""
    actual = {name: sorted(importlib.import_module(name).__all__) for name in sorted(public_packages())}
    assert actual == SURFACE


@pytest.mark.parametrize(("package", "name"), PUBLIC_NAMES)
def test_a_public_name_resolves_and_is_documented_in_place(package, name):
    """Each name exists, and each class or function among them says what it is for."""
    member = getattr(importlib.import_module(package), name)
    if inspect.isclass(member) or inspect.isroutine(member):
        assert inspect.getdoc(member)


@pytest.mark.parametrize(("package", "name"), PUBLIC_NAMES)
def test_a_public_name_has_its_place_in_the_reference(package, name):
    """Each class and function among the public names stands on a page of `docs/reference/`."""
    member = getattr(importlib.import_module(package), name)
    if not (inspect.isclass(member) or inspect.isroutine(member)):
        return
    pages = "\n".join(page.read_text() for page in REFERENCE.glob("*.md"))
    entries = {entry.rpartition(".")[2] for entry in re.findall(r"^::: (\S+)", pages, re.MULTILINE)}
    assert name in entries, f"no page has a `::: ...{name}`"


def test_the_package_says_its_version_and_ships_its_types():
    """The version of the code is that of the metadata, and the marker of a typed package is there."""
    assert flamingo_blocks.__version__ == version("flamingo-blocks")
    assert Path(flamingo_blocks.__file__).with_name("py.typed").is_file()
