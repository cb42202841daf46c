"""`flamingo-blocks train`, called as the shell calls it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_blocks.cli import main as run_main
from flamingo_blocks.training import TrainResult

RECIPE = """
import os
import signal
from dataclasses import replace
from pathlib import Path

import torch

from flamingo_blocks.models import build_tiny_flamingo
from flamingo_blocks.training import BatchShape, Feed, Objective, RunConfig, TrainConfig, train


class Counted:
    # Batches that know how many were drawn.

    def __init__(self, stop_at):
        self.drawn, self.stop_at = 0, stop_at

    def __iter__(self):
        return self

    def __next__(self):
        if self.drawn == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        self.drawn += 1
        return torch.full((2, 4), self.drawn % 30)

    def state_dict(self):
        return {"drawn": self.drawn}

    def load_state_dict(self, state):
        self.drawn = state["drawn"]


def loss(model, ids):
    return model(ids, labels=ids).loss


def recipe(*, folder: Path = Path("run"), steps: int = 3, stop_at: int = -1, lr: float = 1e-3) -> RunConfig:
    \"\"\"A few steps on numbers.\"\"\"

    def feed(model):
        batches = Counted(stop_at)
        return Feed(objectives=[Objective(name="numbers", batches=batches, loss=loss)], data=batches)

    return RunConfig(
        build=build_tiny_flamingo, feed=feed, batches={"numbers": BatchShape(rows=2, text=4, items=0)}, steps=steps,
        lr=lr, folder=folder, save_every=2,
    )


def prepared(*, steps: int = 3) -> RunConfig:
    def prepare():
        model = torch.nn.Linear(2, 1)
        objective = Objective(name="before", batches=[torch.ones(1, 2)], loss=lambda model, x: model(x).mean())
        train(TrainConfig(model=model, objectives=[objective], steps=1, lr=0.1))
        Path("before").write_text("made")

    def build():
        assert Path("before").read_text() == "made"
        return build_tiny_flamingo()

    return replace(recipe(steps=steps), prepare=prepare, build=build)


def not_a_run(*, steps: int = 3):
    return steps


def wrong(*, steps: int = 3):
    raise ValueError("of the recipe's own")
"""


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RECIPE)


def main(*words):
    return run_main(["train", "mine.py", *words])


def test_a_run_says_what_it_did_and_where(capsys):
    """Steps, losses, and the files; the same words again do nothing more."""
    assert main("steps=3") == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("3 steps done, 0 skipped; last losses: numbers ")
    assert [line.split(":")[0].strip() for line in out[1:]] == ["run/model", "run/checkpoints", "run/metrics.jsonl"]
    assert main("steps=3") == 0
    assert capsys.readouterr().out.startswith("all 3 steps were done already\n")


def test_a_run_that_is_asked_to_end_says_so_and_goes_on(capsys):
    """Status 0, a checkpoint at the step, and the rest by the same command."""
    assert main("steps=6", "stop_at=2") == 0
    assert "stopped by SIGTERM after step 3 of 6; the same command goes on from there" in capsys.readouterr().out
    assert main("steps=6") == 0
    assert capsys.readouterr().out.startswith("6 steps done")
    assert [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()] == list(range(6))


def test_a_device_goes_before_the_recipes(monkeypatch):
    """What is named by `--device` is where the run is done, whatever the recipe says."""
    seen = []

    def start(config):
        seen.append(config)
        return TrainResult(reports=(), skipped=0)

    monkeypatch.setattr("flamingo_blocks.cli.train.start_run", start)
    monkeypatch.setattr("flamingo_blocks.cli.train.print_result", lambda config, result: None)
    assert main("steps=1", "--device", "cpu") == 0
    assert main("--device", "cpu", "steps=2") == 0
    assert main("steps=3") == 0
    assert [config.device for config in seen] == ["cpu", "cpu", None]


def test_settings_are_told(capsys):
    """Each with its default and kind; nothing runs."""
    assert main("--settings") == 0
    out = capsys.readouterr().out
    assert "A few steps on numbers." in out
    assert "steps=3" in out and "lr=0.001" in out
    assert not Path("run").exists()


def test_a_dry_run_prints_a_plan(capsys):
    """Sizes, memory, operations and days; nothing is written."""
    assert main("steps=1000", "--dry-run", "--ranks", "2", "--on", "a100-40gb") == 0
    out = capsys.readouterr().out
    assert "8 tokens and 0 items an update on 2 x A100 40 GB" in out
    assert "for 1,000 updates" in out
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [(["mine.py", "step=3"], "the recipe has no setting 'step'; did you mean steps"),
     (["mine.py", "steps=x"], "steps=x: wanted int"),
     (["mine.py", "steps=0"], "steps is 0, wanted 1 or more"),
     (["mine.py", "--device", "gpu"], "--device is 'gpu', wanted cpu, cuda, cuda:1 or mps; this machine has cpu"),
     (["mine.py", "--dry-run", "--device", "cpu"], "--device is where a run trains, and does nothing with --dry-run"),
     (["mine.py", "--ranks", "1"], "--ranks is of the plan that --dry-run prints, and does nothing without it"),
     (["mine.py", "--on", "h200"], "--on is of the plan that --dry-run prints, and does nothing without it"),
     (["mine.py", "--settings", "--json"], "--json prints a plan or what a run did, and --settings has neither"),
     (["mine.py:not_a_run"], "not_a_run returned a int, wanted a RunConfig"),
     (["mine.py:nothing"], "mine.py has no function 'nothing'"),
     (["yours.py"], "RECIPE is 'yours.py', and there is no such file")],
)  # fmt: skip
def test_slips_are_one_line(words, says, capsys):
    """Status 1, and nothing is written."""
    assert run_main(["train", *words]) == 1
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1
    assert says in printed.err
    assert not Path("run").exists()


def test_an_error_of_the_recipe_shows_where_it_is():
    """With its trace: one line would not say which line of the file to mend."""
    with pytest.raises(ValueError, match="of the recipe's own"):
        run_main(["train", "mine.py:wrong"])


@pytest.mark.parametrize("recipe", ["mine.py", "mine.py:prepared"])
def test_torchrun_starts_the_same_command(recipe, tmp_path):
    """Two processes: one line on the screen, one line a step, and one model; what has to be trained before is trained
    by the first of them, alone.
    """
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "flamingo_blocks.cli"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *words, "train", recipe, "steps=3"], capture_output=True, text=True, timeout=300,
        check=False, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 steps done") == 1
    assert [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()] == [0, 1, 2]
    assert (tmp_path / "run" / "model").is_dir()
