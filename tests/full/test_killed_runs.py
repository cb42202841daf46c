"""Whole runs that are killed, asked to end, or go on with other processes: they end as if nothing had happened."""

import json
import os
import random
import re
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
import torch

from tests.training.whole_runs import Kill, Order, write_shards

pytestmark = pytest.mark.full

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "train-on-many-gpus.md"
STEPS = {1: 60, 2: 30}
IN_LOOP, IN_SAVES = (5, 20), (0, 36)  # a checkpoint is made after six points of the loop, and takes about twenty


@dataclass(frozen=True)
class Run:
    """A run, which is launched as often as it takes."""

    order: Order
    processes: int = 1

    @property
    def folder(self) -> Path:
        return Path(self.order.folder)

    def launch(self) -> int:
        """The exit status, once all of its processes are gone."""
        self.folder.mkdir(exist_ok=True)
        how = [] if self.processes == 1 else ["torch.distributed.run", *torchrun_options(self.processes), "-m"]
        command = [
            sys.executable,
            "-W",
            "error",
            "-m",
            *how,
            "tests.training.whole_runs",
            json.dumps(asdict(self.order)),
        ]
        # Whoever lives holds the other end of the pipe.
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        said, _ = process.communicate(timeout=300)
        (self.folder / "said.txt").write_text(said)
        return process.returncode

    def read(self, name: str) -> list[dict]:
        path = self.folder / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def result(self) -> dict:
        return json.loads((self.folder / "result.json").read_text())

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return torch.load(self.folder / "weights.pt")

    def finished(self) -> "Run":
        assert self.launch() == 0, (self.folder / "said.txt").read_text()
        return self


def torchrun_options(processes: int) -> list[str]:
    """Those of the page for one machine, with another number of processes."""
    (options,) = re.findall(r"torchrun (--standalone .*--max-restarts=\d+) train.py", PAGE.read_text())
    return re.sub(r"--nproc-per-node=\d+", f"--nproc-per-node={processes}", options).split()


def environment() -> dict[str, str]:
    """What the page sets, one thread, and nothing of a torchrun that runs these tests."""
    named = dict(re.findall(r"^export (\w+)=(\S+)", PAGE.read_text(), re.MULTILINE))
    assert named
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | named | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With the shards that all runs read."""
    folder = tmp_path_factory.mktemp("runs")
    write_shards(folder / "shards")
    return folder


@pytest.fixture(scope="module")
def calm(folder):
    """Runs that nothing disturbs, by their number of processes."""
    runs = {}

    def run(processes: int) -> Run:
        if processes not in runs:
            order = Order(str(folder / f"calm {processes}"), STEPS[processes])
            runs[processes] = Run(order, processes).finished()
        return runs[processes]

    return run


def draw_kills(seed: int, number: int, processes: int) -> tuple[Kill, ...]:
    """Two of five in a save, the others anywhere in the loop; with several processes, every third takes all along."""
    rng, kills = random.Random(seed), []  # noqa: S311 - no secret
    for life in range(number):
        among, (low, high) = ("save", IN_SAVES) if life % 5 in (1, 3) else ("loop", IN_LOOP)
        everyone = processes > 1 and life % 3 == 2
        # The first process alone does what is done once: syncs, hashes, renames.
        rank = 0 if among == "save" or everyone else rng.randrange(processes)
        kills.append(Kill(among, rng.randint(low, high), rank, everyone))
    return tuple(kills)


@pytest.mark.parametrize(("processes", "number", "seed"), [(1, 10, 0), (2, 7, 1)])
def test_a_run_that_is_killed_ends_as_if_it_had_not_been(processes, number, seed, folder, calm):
    """At random points, in saves too, one process or all: the weights are the same bit for bit, and so is each step
    whenever it is made. Where `torchrun` lives, it is `torchrun` that starts the processes again.
    """
    order = Order(str(folder / f"killed {processes}"), STEPS[processes], draw_kills(seed, number, processes))
    run, ended = Run(order, processes), []
    while not ended or ended[-1] != 0:
        assert len(ended) <= number, (run.folder / "said.txt").read_text()
        before = len(run.read("killed"))
        ended.append(replace(run, order=replace(order, life=before)).launch())
        assert len(run.read("killed")) > before or ended[-1] == 0, (run.folder / "said.txt").read_text()
    killed, expected = run.read("killed"), calm(processes)
    assert [one["life"] for one in killed] == list(range(number))
    assert run.result["lives"] == number + 1  # no life was lost to anything else
    assert sum(one["under way"] for one in killed) >= 3
    by_itself = sum(kill.everyone for kill in order.kills) if processes > 1 else number
    assert ended == [-signal.SIGKILL] * by_itself + [0]
    steps = {one["step"]: one for one in expected.read("steps")}
    made = run.read("steps")
    assert {one["step"] for one in made} == set(range(STEPS[processes]))
    assert len(made) > len(steps)  # some were made again
    assert all(one == steps[one["step"]] for one in made)
    assert run.result["sha256"] == expected.result["sha256"]


@pytest.mark.parametrize(("processes", "whom", "status"), [(1, "rank", 0), (2, "rank", 0), (2, "torchrun", 1)])
def test_a_run_that_is_asked_to_end_saves_and_goes_on(processes, whom, status, folder, calm):
    """By `SIGTERM` to one process or to `torchrun`: all processes save the step they are at and end well, and the run
    that goes on ends in the same weights. `torchrun` itself says 1 when it was asked.
    """
    order = Order(str(folder / f"asked {processes} {whom}"), STEPS[processes], term=6, term_to=whom, save_every=100)
    run = Run(order, processes)
    assert run.launch() == status, (run.folder / "said.txt").read_text()
    assert run.result["stopped_by"] is not None
    assert sorted(one["rank"] for one in run.read("ended")) == list(range(processes))
    (saved,) = (int(path.name[5:]) for path in (run.folder / "checkpoints").iterdir())
    assert saved == len(run.read("steps")) == 8  # the one at which all know of it
    replace(run, order=replace(order, life=1)).finished()
    assert (run.result["first_step"], run.result["stopped_by"]) == (saved, None)
    assert [one["step"] for one in run.read("steps")] == list(range(STEPS[processes]))
    assert run.result["sha256"] == calm(processes).result["sha256"]


def test_a_run_goes_on_with_another_number_of_processes(folder):
    """Two, then one, then two again: losses and weights are those of two all along, to 1e-6."""
    expected = Run(Order(str(folder / "two"), 18, noise=False), 2).finished()
    order = Order(str(folder / "two one two"), 18, noise=False)
    for life, (steps, processes) in enumerate([(6, 2), (12, 1), (18, 2)]):
        run = Run(replace(order, steps=steps, life=life), processes).finished()
        assert run.result["first_step"] == max(0, steps - 6)
    for one, other in zip(run.read("steps"), expected.read("steps"), strict=True):
        assert one["step"] == other["step"]
        assert one["losses"] == pytest.approx(other["losses"], rel=1e-6)
    weights = expected.weights
    assert run.weights.keys() == weights.keys()
    assert max((value - weights[name]).abs().max().item() for name, value in run.weights.items()) <= 1e-6
