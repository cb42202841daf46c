"""An evaluation that is killed at any point and asked again gives what it gives undisturbed."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flamingo_blocks.evaluation.reports import read_journals
from tests.evaluation.runner.runs import answers, run, scores

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]


def launch(folder: Path, processes: int) -> subprocess.Popen:
    """The evaluation in processes of its own; those that torchrun starts have sessions of their own."""
    how = [] if processes == 1 else ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    command = [sys.executable, "-m", *how, "tests.evaluation.runner.runs", json.dumps({"folder": str(folder)})]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src")))}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def kill(process: subprocess.Popen) -> None:
    """At once with what it has started: a rank whose torchrun is gone goes on looking for it."""
    os.killpg(process.pid, signal.SIGSTOP)  # so that it starts no other rank meanwhile
    ranks = started_by(process.pid)
    os.killpg(process.pid, signal.SIGKILL)
    for rank in ranks:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rank, signal.SIGKILL)
    process.communicate()


def started_by(parent: int) -> set[int]:
    """The children of a process."""
    told = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid) for pid, ppid in map(str.split, told.splitlines()) if int(ppid) == parent}


@pytest.mark.parametrize("processes", (1, 2))
def test_killed_at_random_points_it_ends_as_if_nothing_had_happened(processes, tmp_path):
    """After SIGKILL at five random points, of one process or two, each query is answered once and nothing is lost."""
    plain = run(folder=tmp_path / "plain")
    folder, kept = tmp_path / "killed", []
    draw = random.Random(processes)  # noqa: S311 - points, no secrets
    begun = time.monotonic()
    process = launch(folder, processes)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    lasts = time.monotonic() - begun
    assert answers(folder) == answers(tmp_path / "plain")
    for path in folder.iterdir():
        path.unlink()
    for _ in range(5):
        process = launch(folder, processes)
        time.sleep(lasts * draw.uniform(0.3, 0.9))
        kill(process)
        if (folder / "journal").is_dir():
            kept.append(len(read_journals(folder / "journal")))
    assert kept == sorted(kept)  # what was answered is there after each kill
    process = launch(folder, processes)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said.decode()
    assert answers(folder) == answers(tmp_path / "plain")
    assert scores(run(folder=folder)) == scores(plain)
