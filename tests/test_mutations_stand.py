"""The mistakes that the full run makes can still be made: the lines that they change stand in the sources."""

from pathlib import Path

import pytest

from tests.full import (
    test_contrastive_mutations,
    test_data_mutations,
    test_evaluation_mutations,
    test_model_mutations,
    test_mutations,
    test_training_mutations,
)

ROOT = Path(__file__).parent.parent
MODULES = (
    test_mutations,
    test_model_mutations,
    test_training_mutations,
    test_data_mutations,
    test_contrastive_mutations,
    test_evaluation_mutations,
)
MISTAKES = {name: mistake for module in MODULES for name, mistake in module.MUTATIONS.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_line_of_a_mistake_stands_once(name):
    """Who changes the line says anew how to make the mistake, and sees it at once, not in the full run alone."""
    path, right, *_ = MISTAKES[name]
    assert (ROOT / path).read_text().count(right) == 1
