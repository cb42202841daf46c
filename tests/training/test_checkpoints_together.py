"""Checkpoints of several processes, and of processes that are killed."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flamingo_blocks import Flamingo
from flamingo_blocks.training.checkpoints import Checkpointer
from tests.flamingos import make_flamingo
from tests.language_models import make_language_model
from tests.processes import run_together
from tests.training.checkpoint_runs import Run, first_two_processes, last_two_processes, same

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes found, and where they saved."""
    folder = tmp_path_factory.mktemp("two")
    return run_together(first_two_processes, 2, folder, folder=folder), folder


def furthest(one, other):
    assert one.keys() == other.keys()
    assert all(value.isfinite().all() for value in one.values() if value.is_floating_point())
    return max((one[name].double() - other[name].double()).abs().max().item() for name in one)


def test_two_processes_go_on_bit_for_bit(both):
    """A sharded run that goes on on as many processes equals the uninterrupted one, in moments too."""
    for found in both[0]:
        assert same(found["same world"], found["uninterrupted"])


def test_two_then_one_then_two_processes(both):
    """A run that goes on on one process and then on two again differs from the uninterrupted one by 1e-6 at most."""
    (found, _), folder = both
    run = Run().load(Checkpointer(folder / "two"))
    assert run.loaded.differences == ("processes: was 2, is 1",)
    checkpoints = Checkpointer(folder / "one")
    run.train(2).save(checkpoints)
    checkpoints.wait()
    last = run_together(last_two_processes, 2, folder, folder=folder)
    assert same(last[0], last[1])
    assert furthest(last[0], found["uninterrupted"]) <= 1e-6
    assert furthest(Run().train(1).everything(), found["uninterrupted"]) > 1e-4  # it has moved since


def test_shards_are_saved_as_they_were(both):
    """Shards that are zeroed right after an asynchronous save come back, and so do those that an evaluation left
    gathered.
    """
    for found in both[0]:
        assert found["as it was"]
        assert found["after an evaluation"]


def test_what_fails_in_one_process_fails_in_both(both):
    """A process that cannot write is named in both, the older checkpoint stays, and the next save is whole."""
    for found in both[0]:
        assert found["counted"] == (1, 1, 2, 0)
        assert "step-00000002 was not saved: rank 1: OSError: [Errno 28] No space left on device" in found["last"]
        assert found["last"].startswith("2 saves in a row have failed")


def test_processes_that_disagree_are_told(both):
    """State that differs between processes is no state to go on with."""
    for found in both[0]:
        assert "state or config differ between processes" in found["differ"]
        assert "{'rank': 1}" in found["differ"]


def test_damage_that_one_process_finds_is_told_to_both(both):
    """Each process reads a part of the files; what one finds keeps both from loading, or has both fall back."""
    for found in both[0]:
        assert "__1_0.distcp is damaged" in found["damaged"]
        assert found["fallen"].step == 1
        assert "step-00000002.damaged" in found["fallen"].passed_over[0]


def test_a_sharded_model_is_exported_whole(both):
    """One process loads what two have exported, with the weights of both."""
    (found, _), folder = both
    vision = make_flamingo("plain").float().vision
    loaded = Flamingo.from_pretrained(folder / "export", lm=make_language_model("plain"), vision=vision)
    weights = loaded.state_dict()
    assert weights.keys() == found["exported"].keys()
    assert all(torch.equal(value, found["exported"][name]) for name, value in weights.items())


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """What came of runs in a process that may be killed, and whose files may be kept from growing."""
    command = [sys.executable, "-m", "tests.training.checkpoint_runs", str(tmp_path_factory.mktemp("elsewhere"))]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def test_a_run_killed_at_any_point_of_a_save_goes_on(elsewhere):
    """At twenty points, in the thread that saves or not: the newest checkpoint is whole, and the run that is started
    again ends in the same weights and moments.
    """
    assert len(elsewhere["killed"]) == 20
    for run in elsewhere["killed"]:
        assert run["ended"] == -signal.SIGKILL, run
        assert run["said"] == ("nothing was refused" if run["newest"] else "there is none"), run
        assert run["same"], run
    assert {run["newest"] for run in elsewhere["killed"]} == {0, 1, 2, 3}


def test_a_full_disk_ends_no_run(elsewhere):
    """Where files may not grow, a save fails and says so, the older checkpoint stays, and a later one is saved."""
    assert len(elsewhere["full disk"]) == 2
    for way in elsewhere["full disk"]:
        assert all("step-00000002 was not saved: rank 0: OSError: [Errno 27]" in error for error in way["said"])
        assert (way["failures"], way["left"]) == (2, [1])
        assert way["now"] == {"steps": [1, 2], "failures": 0, "files": ["step-00000001", "step-00000002"]}
