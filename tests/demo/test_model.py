"""What may be changed about the demo's Flamingo and its training."""

import copy

import pytest

from flamingo_blocks.demo.model import build_flamingo, train_flamingo
from flamingo_blocks.demo.parts import prepare_parts
from flamingo_blocks.demo.progress import Stopwatch


@pytest.fixture(scope="module")
def parts():
    return prepare_parts(Stopwatch(lambda *_: None), seed=2, tower_steps=1, lm_steps=1)


@pytest.mark.parametrize(("every", "layers"), [(1, ["0", "1"]), (2, ["0"])])
def test_blocks_stand_before_the_first_of_every_so_many_layers(parts, every, layers):
    """Before each of them by default."""
    flamingo = build_flamingo(parts.tower, copy.deepcopy(parts.lm), parts.vocabulary, every=every)
    assert list(flamingo.blocks) == layers


@pytest.mark.parametrize(
    ("updates", "tasks"),
    [("accumulate", [["naming", "captions"]] * 3), ("round_robin", [["naming"], ["captions"], ["naming"]])],
)
def test_tasks_share_an_update_or_take_turns(parts, updates, tasks):
    """In their order."""
    flamingo = build_flamingo(parts.tower, copy.deepcopy(parts.lm), parts.vocabulary)
    reports = []
    train_flamingo(
        flamingo, parts.training, parts.vocabulary, tasks=("naming", "captions"), steps=3, lr=0.01, seed=2,
        updates=updates, on_step=reports.append,
    )  # fmt: skip
    assert [list(report.losses) for report in reports] == tasks
