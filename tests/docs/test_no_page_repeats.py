"""A page says what it says once, and links to what another page says."""

import re
from collections import defaultdict
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
RUN = 25  # words in a row that two pages may not share: a sentence


def _words(page: Path) -> list[str]:
    """The prose of a page, without blocks of code and where its links lead."""
    prose = re.sub(r"```.*?```", " ", page.read_text(), flags=re.DOTALL)
    return re.findall(r"[\w']+", re.sub(r"\]\([^)]*\)", "]", prose).lower())


def test_no_page_repeats_another():
    """No two pages have a sentence in common; decisions, which are not edited, apart."""
    where = defaultdict(set)
    for page in DOCS.rglob("*.md"):
        if page.parent.name != "decisions":
            words = _words(page)
            for start in range(len(words) - RUN + 1):
                where[" ".join(words[start : start + RUN])].add(str(page.relative_to(DOCS)))
    assert len(where) > 10_000
    assert {run: pages for run, pages in where.items() if len(pages) > 1} == {}
