"""What the documentation shows, runs: the python blocks of the pages, and the examples of the docstrings."""

import ast
import contextlib
import doctest
import importlib
import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src"
ERROR_PAGES = sorted((SOURCES / "flamingo_blocks" / "error_pages").glob("*.md"))  # included by those of docs/errors
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), *ERROR_PAGES]
FENCE = re.compile(r"^(?P<indent> *)```python(?P<head>[^\n]*)\n(?P<code>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL)
PRINTS = re.compile(r"\n\nprints\b[^\n]*\n\n```text\n(?P<text>.*?)```", re.DOTALL)  # what a block says it prints
NEED_PEERS = {"peers-mask-bugs.md"}  # other implementations, which `nox -s tests` installs


def blocks_of(page: Path) -> list[tuple[int, str]]:
    """The python blocks of a page, each with the number of lines above it.

    Those of a tutorial that have a title are files, which `tests/docs` writes, for the commands of the page.
    """
    text = page.read_text()
    found = []
    for match in FENCE.finditer(text):
        if page.parent.name == "tutorials" and "title=" in match["head"]:
            continue
        lines = match["code"].splitlines(keepends=True)
        above = text[: match.start("code")].count("\n")
        found.append((above, "".join(line.removeprefix(match["indent"]) for line in lines)))
    return found


def examples() -> Iterator[doctest.DocTest]:
    """Every docstring with an example, read from the sources.

    `doctest` itself looks at live objects and passes over what a decorator wraps, which the shape hook does everywhere.
    """
    parser = doctest.DocTestParser()
    for path in sorted(SOURCES.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node, clean=False) or ""
                name = f"{module}:{getattr(node, 'name', '')}"
                line = node.body[0].lineno - 1 if text else 0
                example = parser.get_doctest(text, {}, name, str(path), line)
                if example.examples:
                    yield example


@pytest.fixture(autouse=True)
def _run_eagerly() -> Iterator[None]:
    """What the documentation compiles runs eagerly here, for the checks of shapes cannot be traced.

    `nox -s compile` runs the page on compilation as it stands.
    """
    with torch.compiler.set_stance("force_eager"):
        yield


def printed_after(page: Path) -> dict[int, str]:
    """What the page says its blocks print, by the number of lines above each block of which it says so."""
    text = page.read_text()
    found = {}
    for match in FENCE.finditer(text):
        if says := PRINTS.match(text, match.end()):
            found[text[: match.start("code")].count("\n")] = says["text"]
    return found


PAGES_WITH_CODE = [page for page in PAGES if blocks_of(page)]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.peers] * (page.name in NEED_PEERS)) for page in PAGES_WITH_CODE],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_python_blocks_of_a_page_run(page, tmp_path, monkeypatch, request):
    """The python blocks of a page run from top to bottom in one namespace, in an empty folder, and print what the
    page says they print.
    """
    if page.name in NEED_PEERS:
        pytest.importorskip("flamingo_pytorch", reason="peers are installed by `nox -s tests`")
    if page in ERROR_PAGES:
        request.getfixturevalue("without_shape_checks")  # what the library says, and not what the tests' hook does
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    says = printed_after(page)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for above, code in blocks_of(page):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile("\n" * above + code, str(page), "exec"), namespace)
            if above in says:
                assert printed.getvalue() == says[above]


def test_the_readme_shows_code():
    """The README has python blocks and they are found: without this, the test above could be empty."""
    assert ROOT / "README.md" in PAGES_WITH_CODE


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_docstring_example_prints_what_it_says(example, tmp_path, monkeypatch):
    """The example of a docstring runs with the names of its module, and prints what stands below each line."""
    monkeypatch.chdir(tmp_path)
    example.globs = dict(vars(importlib.import_module(example.name.partition(":")[0])))
    report: list[str] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(example, out=report.append)
    assert result.failed == 0, "".join(report)
