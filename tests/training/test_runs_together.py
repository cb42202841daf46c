"""Runs of several processes: gradients of uneven data sets, messages of a step, and ranks that do not agree."""

import pytest
import torch

from tests.processes import run_together
from tests.training import together_runs


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes have found: one start for all of it."""
    return run_together(together_runs.run, 2, folder=tmp_path_factory.mktemp("two"))


def test_the_weighted_gradient_of_uneven_data_sets_is_that_of_one_process(both, tmp_path):
    """More labels on one rank, a rank without any, a data set without any: in each weight and in each loss."""
    ((expected, losses),) = (found["change"] for found in run_together(together_runs.run, 1, folder=tmp_path))
    assert losses["none"] == 0.0
    assert losses["uneven"] > 0 and losses["one rank"] > 0
    assert any(change.abs().max() > 1e-3 for change in expected.values())
    for found, told in (rank["change"] for rank in both):
        assert told == pytest.approx(losses, rel=1e-6)
        for name, change in expected.items():
            torch.testing.assert_close(found[name], change, atol=1e-6, rtol=0)


def test_a_step_reduces_each_group_once(both):
    """Resampler, two blocks and the rest: two steps of six micro-batches are eight messages."""
    assert [rank["messages"] for rank in both] == [8, 8]


SLIPS = {
    "other names": (
        "ValueError",
        "ranks have different objectives: [[('b', 1.0), ('a', 1.0)], [('a', ",
    ),
    "other numbers": ("ValueError", "ranks have different objectives: "),
    "not sharded": ("ValueError", "model is not sharded, and there are 2 processes"),
    "no model of ours": ("ValueError", "model is not sharded, and there are 2 processes"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_ranks_that_differ_are_told_before_a_step_is_made(both, slip):
    """On each of them, and no weight has moved."""
    for rank in both:
        kind, said, still = rank["slips"][slip]
        assert (kind, still) == (SLIPS[slip][0], True)
        assert SLIPS[slip][1] in said


@pytest.mark.parametrize(
    ("slip", "who", "cause"),
    [("dry at once", 1, "ValueError: objective 'a' ran dry at step 0: its batches must last as long as the run"),
     ("dry later", 1, "ValueError: objective 'a' ran dry at step 1: its batches must last as long as the run"),
     ("broken", 0, "OSError: the disk is gone")],
)  # fmt: skip
def test_what_one_rank_cannot_draw_ends_all(both, slip, who, cause):
    """The one that fails with its own error, the others with its words, and none waits for ever."""
    kinds, said, still = zip(*(rank["slips"][slip] for rank in both), strict=True)
    step = 0 if "step 0" in cause else 1
    other = f"step {step} was not made, since not all ranks have their batches: rank {who}: {cause}"
    expected = [(cause.partition(": ")[0], cause.partition(": ")[2]), ("RuntimeError", other)]
    assert [*zip(kinds, said, strict=True)] == (expected if who == 0 else expected[::-1])
    assert still == ((True, True) if step == 0 else (False, False))  # steps before it stand
