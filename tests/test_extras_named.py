"""The extras: what an error names brings what is missing, and each is used somewhere."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# What is imported by another name than it is installed by; and what comes with a package that is asked for.
INSTALLED_AS = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "faiss": "faiss-cpu",
    "open_clip": "open-clip-torch",
}
BRINGS = {"transformers": {"safetensors", "numpy", "tokenizers"}}
# A second decoder of clips, which is looked for beside the one that the extra brings.
BY_HAND = {("torchcodec", "video")}


def calls() -> list[tuple[str, str, str]]:
    """File, package and extra of each `require` of the sources."""
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "require":
                continue
            extra = {keyword.arg: keyword.value for keyword in node.keywords}.get("extra")
            if isinstance(node.args[0], ast.Constant) and isinstance(extra, ast.Constant):
                found.append((path.name, node.args[0].value.partition(".")[0], extra.value))
    return found


def brought_by(extra: str) -> set[str]:
    """The packages of an extra, and what they surely bring."""
    names = {re.match(r"[\w-]+", requirement)[0].lower().replace("_", "-") for requirement in EXTRAS[extra]}
    return names.union(*(BRINGS.get(name, ()) for name in names))


@pytest.mark.parametrize(("package", "extra"), sorted({call[1:] for call in calls()}))
def test_the_extra_of_an_error_brings_the_package(package, extra):
    """Who installs what the error says has the package."""
    name = INSTALLED_AS.get(package, package).lower().replace("_", "-")
    assert (package, extra) in BY_HAND or name in brought_by(extra)


def test_every_extra_is_used():
    """Each extra but the one made of the others has a script that uses it."""
    scripts = {path.stem for path in (ROOT / "tests/distribution/uses").glob("with_*.py")}
    assert scripts == {f"with_{extra.replace('-', '_')}" for extra in EXTRAS} - {"with_dev"}
