"""The tree that the README draws is the tree that there is."""

import re
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TREE = re.search(r"## The house\n\n```text\n(.*?)```", README, re.DOTALL)[1]


def test_every_part_of_the_package_is_in_the_tree():
    """Each package and file that people import from stands in the tree of the README, and nothing that is gone."""
    package = ROOT / "src" / "flamingo_blocks"
    there = {f"{path.name}/" for path in package.iterdir() if (path / "__init__.py").is_file()}
    there |= {path.name for path in package.glob("[!_]*.py")}
    named = set(re.findall(r"^ {2}(\w+(?:/|\.py))", TREE, re.MULTILINE)) | set(re.findall(r"\b(\w+\.py)\b", TREE))
    assert there <= named
    assert set(re.findall(r"^ {2}(\w+/)", TREE, re.MULTILINE)) <= there


def test_nothing_lies_at_the_root_unexplained():
    """A folder at the root of a clone is in the tree; what a run leaves there is ignored by git."""
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    seen = [name for name in folders if not any(fnmatch(name, pattern) for pattern in ignored)]
    assert [name for name in seen if not re.search(rf"^{name}/", TREE, re.MULTILINE)] == []
