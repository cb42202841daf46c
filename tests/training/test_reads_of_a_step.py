"""How often a step of training waits for the device: once, at its end."""

import itertools
from pathlib import Path

import pytest
import torch

from flamingo_blocks.data import FlamingoBatch
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import BatchParts, Objective, TrainConfig, flamingo_loss, train
from flamingo_blocks.training.objective import draw
from tests.host_reads import HostReads

TAG = 32  # of the tiny Flamingo


def batch_of(model):
    """Two rows, the second with a pad; an image in each."""
    ids = torch.tensor([[1, TAG, 5, 6], [TAG, 7, 8, 0]])
    return FlamingoBatch(
        input_ids=ids, attention_mask=ids != 0, layout=model.make_layout(ids).prepare(),
        labels=ids.where(ids != 0, -100), pixels=torch.ones(2, 1, 3, 8, 8),
    )  # fmt: skip


@pytest.mark.parametrize("updates", ["accumulate", "round_robin"])
def test_a_step_reads_the_device_once(updates):
    """Losses and norm together, whatever the number of data sets and parts; what batches hold is counted on the host
    before they are moved.
    """
    model = build_tiny_flamingo()
    batch = batch_of(model)
    drawn = {"pages": itertools.repeat(BatchParts([batch, batch])), "pairs": itertools.repeat(batch)}
    objectives = [Objective(name=name, batches=each, loss=flamingo_loss) for name, each in drawn.items()]
    after = []  # each step, so that the first, which asks the head for its logits, does not hide what the others do
    with HostReads() as reads:
        train(
            TrainConfig(
                model=model,
                objectives=objectives,
                steps=4,
                lr=1e-3,
                updates=updates,
                on_step=lambda _: after.append(len(reads.places)),
            )
        )
    for start, end in itertools.pairwise(after[1:]):
        files = [Path(place.rpartition(":")[0]).name for place in reads.places[start:end]]
        assert [file for file in files if file != "objective.py"] == ["update.py"]


def test_a_batch_is_counted_before_it_is_moved():
    """To a device whose values nobody can read it comes with its sizes, whole or in parts."""
    model = build_tiny_flamingo()
    batch = batch_of(model)
    model.to("meta")
    pages = Objective(name="pages", batches=(), loss=flamingo_loss)
    for given, times in ((batch, 1), (BatchParts([batch, batch]), 2)):
        drawn = draw(pages, iter([given]), model, 0)
        assert drawn.sizes == (4 * times, 7 * times, 2 * times)
        assert {each.device.type for part in drawn.parts for each in (part.input_ids, part.pixels)} == {"meta"}


def test_a_batch_that_is_there_already_and_one_of_another_kind_stay_as_they_are():
    """Nothing is copied, and tensors of one's own are moved by whoever makes them."""
    model = build_tiny_flamingo()
    batch, rows = batch_of(model), torch.ones(2, 3)
    objective = Objective(name="x", batches=(), loss=flamingo_loss)
    assert draw(objective, iter([batch]), model, 0).parts[0] is batch
    assert draw(objective, iter([rows]), model.to("meta"), 0).parts[0] is rows
