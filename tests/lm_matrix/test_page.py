"""The page on language models says what the tests say."""

from pathlib import Path

from flamingo_blocks.testing._language_model_can import CAN
from tests.language_families import FAMILIES, SHOWN, table

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "bring-your-lm.md").read_text()


def test_the_table_of_families_is_that_of_the_tests():
    """Each line; what is not in the table holds for all families, in every version."""
    shown = [line for line in PAGE.splitlines() if line.startswith("|")]
    assert shown == table(), "wanted:\n" + "\n".join(table())
    unable = {check for family in FAMILIES.values() for check in family.cannot + family.cannot_at_floor}
    assert unable <= set(SHOWN) <= set(CAN)


def test_each_column_is_explained():
    """Below the table, by its name; the abilities that all families have, above it."""
    for check in SHOWN:
        assert f"**{check}**" in PAGE
