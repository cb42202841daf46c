"""Runs of `train` on full disks, from damaged checkpoints and with bad input: what they do, and what they say."""

import logging
import resource
import shutil

import pytest
import torch
from torch import nn

from flamingo_blocks.errors import CheckpointError
from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import Checkpointer, Objective, TrainConfig, flamingo_loss, train, warmup_hold_decay
from tests.training.checkpoint_runs import blocking, flip
from tests.training.loop_runs import batch_of
from tests.training.sharded_checks import make_rows
from tests.training.test_runs import config, layer, mixture, numbers_loss, run, squares


@pytest.fixture
def small_files():
    """A way to keep files from growing, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=None: resource.setrlimit(resource.RLIMIT_FSIZE, (limits[0] if size is None else size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def steps_of(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_disk_that_is_full_for_a_while_costs_one_checkpoint(tmp_path, small_files, caplog):
    """The run goes on and says so; the checkpoint before it stands, and the next one is made."""

    def on_step(report):
        if report.step in (3, 4):  # the save of step 4 is between them
            small_files(1000 if report.step == 3 else None)

    _, expected = run(None, 6)
    result, found = run(blocking(tmp_path), 6, on_step=on_step)
    assert [report.step for report in result.reports] == list(range(6))
    assert "step-00000004 was not saved: rank 0: OSError: [Errno 27]" in caplog.text
    assert steps_of(tmp_path) == ["step-00000002", "step-00000006"]
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_run_that_ends_on_a_full_disk_goes_on_from_the_checkpoint_before(tmp_path, small_files):
    """After so many failures in a row it ends; started again it loses the steps since, and nothing else."""
    _, expected = run(None, 9)
    with pytest.raises(CheckpointError, match=r"3 saves in a row have failed, the last one: .*File too large"):
        run(blocking(tmp_path), 9, on_step=lambda report: small_files(1000) if report.step == 2 else None)
    small_files()
    went_on, found = run(tmp_path, 9)
    assert (went_on.first_step, went_on.passed_over) == (2, ())
    assert steps_of(tmp_path)[-1] == "step-00000009"
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_room_is_asked_for_before_a_save(tmp_path, monkeypatch, caplog):
    """With too little of it the run goes on, and the log has both numbers."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 0, 10))
    with pytest.raises(CheckpointError, match="the disk has 10 bytes free"):  # the last save, after which none comes
        run(tmp_path, 2)
    assert "the disk has 10 bytes free, wanted 10" in caplog.text
    assert steps_of(tmp_path) == []


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
    "flipped": lambda step: flip(next(step.glob("*.distcp")), 4000),
    "cut": lambda step: cut(next(step.glob("*.distcp"))),
    "missing": lambda step: next(step.glob("*.distcp")).unlink(),
    "no manifest": lambda step: (step / "manifest.json").unlink(),
    "manifest cut": lambda step: cut(step / "manifest.json"),
    "state cut": lambda step: cut(step / "state.json"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_of_damaged_checkpoints_the_newest_whole_one_is_taken(damage, tmp_path, caplog):
    """Two of three are damaged: both are told and put aside, and the run ends like the uninterrupted one."""
    run(tmp_path, 6)
    for step in (4, 6):
        DAMAGES[damage](tmp_path / f"step-0000000{step}")
    went_on, found = run(tmp_path, 7)
    _, expected = run(None, 7)
    assert (went_on.first_step, len(went_on.passed_over)) == (2, 2)
    for step, said in zip((6, 4), went_on.passed_over, strict=True):
        assert f"step-0000000{step}" in said
        assert said.endswith(f"it is now {tmp_path / f'step-0000000{step}.damaged'}")
        assert said in caplog.text
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_whole_checkpoint_no_run_begins_anew(damage, tmp_path):
    """All that there was is damaged: that is an error, and no reason to begin at step 0; nothing is put aside."""
    run(tmp_path, 2)
    DAMAGES[damage](tmp_path / "step-00000002")
    with pytest.raises(CheckpointError, match=r"no checkpoint of .* was loaded; .*step-00000002"):
        run(tmp_path, 4)
    assert steps_of(tmp_path) == ["step-00000002"]


def test_what_a_killed_save_has_left_is_no_checkpoint(tmp_path):
    """With nothing but an unfinished one the run begins at step 0."""
    (tmp_path / "step-00000002.tmp").mkdir()
    result, _ = run(tmp_path, 2)
    assert (result.first_step, result.passed_over) == (0, ())
    assert steps_of(tmp_path) == ["step-00000002"]


def test_another_model_is_not_gone_on_with(tmp_path):
    """Neither another shape nor another frozen part; and no older checkpoint is taken for that."""
    run(tmp_path, 4)
    other = nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5), nn.Linear(5, 1))
    with pytest.raises(CheckpointError, match=r"0.weight has shape \(4, 3\) in the checkpoint, \(5, 3\) here"):
        run(tmp_path, 6, model=other)
    frozen = layer()
    frozen[0].requires_grad_(False)
    with pytest.raises(CheckpointError, match="it has 2 tensors that do not train here: .*0.bias"):
        run(tmp_path, 6, model=frozen)
    assert steps_of(tmp_path) == ["step-00000002", "step-00000004"]


def test_other_data_are_not_gone_on_with(tmp_path):
    """The mixture says what differs."""
    run(tmp_path, 2)
    data = mixture(seed=1)
    objective = Objective(name="numbers", batches=data.batches("numbers"), loss=numbers_loss)
    with pytest.raises(ValueError, match="seed"):
        train(config(layer(), [objective], steps=4, data=data, checkpointer=Checkpointer(tmp_path), seed=3))


def flamingo_and_batch(**changed):
    model = build_tiny_flamingo()
    batch = batch_of(model, make_rows()[:2])
    for name, change in changed.items():
        change(getattr(batch, name))
    return model, batch


def test_labels_outside_of_the_vocabulary_are_told():
    """With those that there may be, before a weight moves."""
    model, batch = flamingo_and_batch(labels=lambda labels: labels[0, 3:].fill_(40))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    objective = Objective(name="x", batches=[batch], loss=flamingo_loss)
    with pytest.raises(ValueError, match="labels hold 40, wanted 0 to 33, or -100 where nothing counts"):
        train(TrainConfig(model=model, objectives=[objective], steps=1, lr=0.1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_data_set_that_runs_dry_in_the_middle_of_a_step_leaves_no_half_of_it():
    """The batches of the other data sets are drawn, and nothing is learnt from them."""
    seen, model = [], layer()
    objectives = [
        Objective(name="long", batches=[torch.ones(2, 3)] * 5, loss=squares),
        Objective(name="short", batches=[torch.ones(2, 3)] * 2, loss=squares),
    ]
    keep = lambda _: seen.append(model[0].weight.detach().clone())  # noqa: E731
    with pytest.raises(ValueError, match="'short' ran dry at step 2: its batches must last as long as the run"):
        train(config(model, objectives, steps=5, on_step=keep, schedule=warmup_hold_decay(warmup=1)))
    assert len(seen) == 2
    assert torch.equal(model[0].weight, seen[-1])
    assert all(weight.grad is None or weight.grad.isfinite().all() for weight in model.parameters())


def test_a_model_without_anything_to_train_is_told():
    """Before a batch is drawn."""
    objective = Objective(name="x", batches=(1 / 0 for _ in range(1)), loss=squares)
    with pytest.raises(ValueError, match="Sequential without a parameter that needs a gradient"):
        train(config(layer().requires_grad_(False), [objective]))


@pytest.fixture(autouse=True)
def _heard(caplog):
    caplog.set_level(logging.WARNING)
