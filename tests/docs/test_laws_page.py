"""The page of laws names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = sorted(set(re.findall(r"`(test_\w+)`", (ROOT / "docs/explanation/laws.md").read_text())))


@pytest.fixture(scope="module")
def defined():
    """The name of every test of the suite."""
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)", path.read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize("name", NAMED)
def test_a_law_is_held_by_a_test(name, defined):
    """Every test that the page of laws names is a test of the suite."""
    assert name in defined


def test_every_law_has_a_test():
    """Each row of the tables names at least one test, and each law of 1 to 18 stands there once."""
    rows = re.findall(r"^\| (\d+) \| (.*)$", (ROOT / "docs/explanation/laws.md").read_text(), re.MULTILINE)
    assert sorted(int(number) for number, _ in rows) == list(range(1, 19))
    assert all("`test_" in row for _, row in rows)
