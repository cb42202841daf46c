"""Every page can be reached, and every folder of tests is on the map."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def in_navigation() -> list[str]:
    """The pages of the navigation, in its order."""
    navigation = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    return re.findall(r"^ *- (?:[^:#\n]+: )?(\S+\.md)$", navigation, flags=re.MULTILINE)


def test_every_page_is_in_the_navigation():
    """Each page of `docs` stands in `mkdocs.yml` once, and each page there exists."""
    assert sorted(in_navigation()) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_decisions_are_numbered_and_in_order():
    """Each number is given once, a gap is said on the index, and the title of a page has its number."""
    pages = sorted((DOCS / "decisions").glob("[0-9]*.md"))
    numbers = [int(page.name[:4]) for page in pages]
    gaps = set(range(1, numbers[-1] + 1)) - set(numbers)
    index = (DOCS / "decisions" / "index.md").read_text()
    never = re.search(r"Numbers (.*) were never given", index)
    assert len(set(numbers)) == len(numbers)
    assert never is not None and {int(number) for number in re.findall(r"\d{4}", never[1])} == gaps
    assert all(re.match(rf"(---\n.*?\n---\n\n)?# {page.name[:4]}: ", page.read_text(), re.DOTALL) for page in pages)
    listed = [page for page in in_navigation() if re.match(r"decisions/\d", page)]
    assert listed == [page.relative_to(DOCS).as_posix() for page in pages]


def test_the_map_of_the_tests_is_complete():
    """`CONTRIBUTING.md` names every folder and file of `tests`, and none that is gone."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Map of the tests\n")[1].split("```")[1]
    lines = [line for line in text.splitlines() if re.match(r"  \S", line)]
    named = {name.rstrip("/") for line in lines for name in re.split(r" {2,}", line.strip())[0].split()}
    left = {"__init__.py", "__pycache__"}
    there = {path.name for path in (ROOT / "tests").iterdir() if not path.name.startswith(".")} - left
    named_in_words = {name for name in there - named if re.search(rf"\b{re.escape(name)}\b", text)}
    assert there - named_in_words == named


def test_every_session_is_in_the_table():
    """The table of `CONTRIBUTING.md` has each session of `noxfile.py`, and no other."""
    table = (ROOT / "CONTRIBUTING.md").read_text().split("\n## Sessions\n")[1].split("\n## ")[0]
    defined = re.findall(r"^@nox\.session[^\n]*\ndef (\w+)", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) and defined
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == sorted(defined)
