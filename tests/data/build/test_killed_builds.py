"""A build that is killed leaves nothing half written and no one behind, and goes on where it was."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_blocks.data.build import LocalExecutor, run_shards
from tests.data.build.steps import Lines, contents, write_shards

ROOT = Path(__file__).parents[3]
LONGEST_S = 60.0  # far longer than it takes; a test that fails shall not hang

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def start(*arguments, **options):
    """A build in a process of its own."""
    command = [sys.executable, "-m", "tests.data.build.killed_builds", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def killed_at(folder, seeds):
    """Runs killed at points that seeds choose."""
    output, errors = start("seeds", folder, *seeds).communicate()
    assert output, errors
    return json.loads(output)


def check(found):
    """Killed indeed; what was visible was whole; what was done was not done again; all is as in the calm build."""
    for run in found["runs"]:
        assert run["ended"] == -signal.SIGKILL, run
        assert all(content == found["calm"][name] for name, content in run["visible"].items()), run
        assert run["skipped"] == run["manifests"], run
        assert run["skipped"] + run["done"] == 3, run
        assert run["same"], run


def test_a_build_killed_at_twenty_points_gives_the_same_bytes(tmp_path):
    """The builder dies, its worker with it or a moment later, between any two operations on files or amid a record."""
    found = killed_at(tmp_path, range(20))
    check(found)
    passed = [name for name in found["points"] if name in ("before fsync", "before replace")]
    # Bytes are on the disk before their name is, and the name before the next file: output, then manifest.
    assert passed == ["before fsync", "before replace", "before fsync"] * 2
    where = {run["where"].partition(" (")[0] for run in found["runs"]}
    assert {"worker, after fsync", "worker, before replace", "worker, in the middle of a record"} <= where


@pytest.mark.full
def test_a_build_killed_at_many_points_gives_the_same_bytes(tmp_path):
    """As above, for three hundred of them."""
    check(killed_at(tmp_path, range(100, 400)))


def hanging(folder, method):
    """A build whose worker hangs, and the end of a pipe that the worker holds."""
    os.mkfifo(folder / "pipe")
    builder = start("hang", folder, method, start_new_session=True)
    pipe = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert read(pipe) == b"here", builder.communicate()
    return builder, pipe


def read(pipe):
    """The next bytes, or none when the worker is gone."""
    poll = select.poll()
    poll.register(pipe)
    assert poll.poll(LONGEST_S * 1000), "the worker is still there"
    return os.read(pipe, 100)


@pytest.mark.parametrize("method", ["forkserver", "fork", pytest.param("spawn", marks=pytest.mark.full)])
def test_no_worker_outlives_its_builder(tmp_path, method):
    """Not even one that hangs in native code with Python's lock held, when the builder is killed by -9."""
    builder, pipe = hanging(tmp_path, method)
    builder.kill()
    builder.wait()
    assert read(pipe) == b""  # before the builder's own output, whose end a worker left behind would hold open
    builder.communicate()
    os.close(pipe)


def test_an_interrupted_build_takes_its_workers_with_it(tmp_path):
    """By Ctrl-C: nothing half written is left, what was done stays, and the next run does the rest."""
    builder, pipe = hanging(tmp_path, "fork")
    os.killpg(builder.pid, signal.SIGINT)  # as a terminal does
    _, errors = builder.communicate()
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert read(pipe) == b""
    os.close(pipe)
    out = tmp_path / "out"
    assert not [name for name in contents(out) if "unfinished" in name]
    assert not (out / "000.jsonl").exists()
    inputs = write_shards(tmp_path / "in", [[{"text": "a"}, {"text": "b"}], [{"text": "c"}]])
    report = run_shards(Lines(tmp_path), inputs, out, executor=LocalExecutor(0))
    assert report.complete
    assert (out / "000.jsonl").read_text() == '{"text": "A"}\n{"text": "B"}\n'
