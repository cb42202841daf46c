"""Files and functions stay small enough to be read at once."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path for folder in ("src", "benchmarks", "examples", "tests", "docs") for path in (ROOT / folder).rglob("*.py")
)
FILE, FUNCTION = 300, 40  # lines without docstrings and blank lines
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def lines_of_docstrings(tree):
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            yield from range(first.lineno, first.end_lineno + 1)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_and_its_functions_are_within_their_budgets(path):
    """300 lines a file and 40 a function body, docstrings and blank lines not counted."""
    text = path.read_text()
    tree = ast.parse(text)
    skipped = {number for number, line in enumerate(text.splitlines(), 1) if not line.strip()}
    skipped |= set(lines_of_docstrings(tree))

    def count(first, last):
        return sum(number not in skipped for number in range(first, last + 1))

    assert count(1, len(text.splitlines())) <= FILE
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    too_long = {f.name: size for f in functions if (size := count(f.body[0].lineno, f.end_lineno)) > FUNCTION}
    assert not too_long
