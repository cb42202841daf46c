"""The tree that the README draws is the tree that there is."""

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TREE = re.search(r"## The house\n\n```text\n(.*?)```", README, re.DOTALL)[1]


def folders():
    """Those at the root: of git where it is there, since others lie in a clone as well, such as `venv`."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        names = {line.partition("/")[0] for line in listed.splitlines() if "/" in line}
    else:
        names = {path.name for path in ROOT.iterdir() if path.is_dir()}
    return sorted(name for name in names if not name.startswith("."))


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
    seen = [name for name in folders() if not any(fnmatch(name, pattern) for pattern in ignored)]
    assert [name for name in seen if not re.search(rf"^{name}/", TREE, re.MULTILINE)] == []
