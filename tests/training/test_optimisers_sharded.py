"""Which optimisers step on sharded parameters, by running them."""

from pathlib import Path

import pytest

from flamingo_blocks.training.optim.groups import param_groups
from flamingo_blocks.training.optim.optimiser_table import OPTIMISERS
from flamingo_blocks.training.optim.optimisers import make_optimizer
from tests.optimiser_runs import make_model, train_sharded
from tests.processes import run_together

# Torch's own, some that are mended, and three ways to fail.
FEW = ("adamw", "ranger", "lamb", "lookahead", "torch_optimizer.radam", "a2gradexp", "shampoo", "swats")
REFUSED = [name for name, entry in OPTIMISERS.items() if entry.not_sharded]


@pytest.mark.parametrize("names", [FEW, pytest.param(tuple(OPTIMISERS), marks=pytest.mark.full)], ids=["few", "all"])
def test_the_table_says_what_can_be_sharded(names, tmp_path):
    """Two processes take the steps of one, and go on bit for bit from a checkpoint; what is refused would fail."""
    pytest.importorskip("torch_optimizer")
    for found in run_together(train_sharded, 2, names, tmp_path, folder=tmp_path):
        assert set(found) == set(names)
        for name, result in found.items():
            if OPTIMISERS[name].not_sharded:
                assert f"{OPTIMISERS[name].class_name} cannot step on sharded parameters" in result, (name, result)
                assert OPTIMISERS[name].not_sharded in result
            else:
                apart, resumed = result
                assert apart <= 1e-6, name
                assert resumed == 0, name


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_sharded_is_refused_by_name(name):
    """Before anything is built, with the reason and a way out."""
    entry = OPTIMISERS[name]
    groups = param_groups(make_model(), lr=0.01)
    with pytest.raises(ValueError, match=f"{entry.class_name} cannot step on .*{entry.not_sharded}.*'adamw'"):
        make_optimizer(name, groups, sharded=True)
    with pytest.raises(ValueError, match=f"{entry.class_name} cannot step on"):
        make_optimizer("lookahead", groups, base=name, sharded=True)


def test_an_optimiser_made_before_sharding_is_refused():
    """It would hold the parameters that the model no longer has."""
    with pytest.raises(ValueError, match="none of the parameters is sharded.*shard the model first"):
        make_optimizer("adamw", param_groups(make_model(), lr=0.01), sharded=True)


def test_the_page_has_the_table():
    """Every name, in the order of the table, with whether it shards and why not."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "choose-an-optimiser.md"
    rows = [line.split(" | ") for line in page.read_text().splitlines() if "| torch" in line]
    assert [(row[0].strip("|` "), row[2]) for row in rows] == [
        (name, f"no: {entry.not_sharded}" if entry.not_sharded else "yes") for name, entry in OPTIMISERS.items()
    ]
