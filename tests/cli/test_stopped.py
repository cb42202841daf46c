"""Ctrl-C and `SIGTERM`: one line, an exit status, and nothing half-written."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flamingo_blocks.cli import _ending, convert, demo, doctor, evaluate, explain, generate, inspect, main, train
from flamingo_blocks.cli._data import build, check, show, stats
from flamingo_blocks.cli._data import convert as convert_data
from flamingo_blocks.data.atomic_file import written_together
from flamingo_blocks.demo import tower
from flamingo_blocks.interop import write_checkpoint
from flamingo_blocks.interop.example import tiny_open_flamingo
from tests.cli.test_data_commands import DOCUMENTS, write
from tests.cli.test_help import COMMANDS
from tests.cli.test_train_command import RECIPE
from tests.language_models import make_language_model

# Of each command, what does its work.
WORK = [
    (["doctor"], doctor, "check_machine"), (["demo"], demo, "run_demo"),
    (["explain", "masks"], explain, "_read"),
    (["generate", "model", "--prompt", "a"], generate, "load_demo_model"),
    (["inspect", "checkpoint.pt"], inspect, "refuse_form_of_transformers"),
    (["train", "mine.py"], train, "start_run"),
    (["eval", "--tasks", "counting", "--model", "m.py:f"], evaluate, "_tasks"),
    (["data", "build", "pages", "out"], build, "list_page_shards"),
    (["data", "check", "a.jsonl"], check, "each_record"),
    (["data", "show", "a.jsonl"], show, "show_documents"), (["data", "stats", "a.jsonl"], stats, "document_stats"),
    (["data", "convert", "a.jsonl", "--to", "jsonl", "--out", "b"], convert_data, "_sound"),
    (["convert", "checkpoint.pt", "--lm", "opt", "--out", "ours"], convert, "refuse_form_of_transformers"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(RECIPE)


@pytest.fixture(autouse=True)
def _as_in_the_foreground():
    """Ctrl-C is heard, which what a shell has put into the background ignores, and hands on to its own children."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def sends(number):
    def send(*_, **__):
        signal.raise_signal(number)
        raise AssertionError

    return send


def test_the_work_of_every_command_is_known():
    """A new command stands in the list above."""
    known = [words[: len(command)] for command in COMMANDS for words, _, _ in WORK]
    assert [command for command in COMMANDS if command not in known] == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("words", "module", "work"), WORK, ids=[" ".join(words[:2]) for words, _, _ in WORK])
def test_every_command_ends_in_a_line(words, module, work, number, status, monkeypatch, capsys):
    """Which says what is kept; what handled the signals before does so again."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(module, work, sends(number))
    assert main(words) == status
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("flamingo-blocks: stopped; ")
    assert _ending._KEPT not in printed.err  # each has words of its own
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_sigterm_does_not_disturb_the_cleaning_up(monkeypatch, capsys):
    """It is not heard any more, and the command ends by the first."""
    cleaned = []

    def work(*_, **__):
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            cleaned.append(True)

    monkeypatch.setattr(doctor, "check_machine", work)
    assert main(["doctor"]) == 143
    assert cleaned == [True]
    assert capsys.readouterr().err.count("\n") == 1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_rank_is_ended_by_the_system(monkeypatch):
    """Under torchrun no handler of Python stands in for it, which would not run while a collective waits."""
    seen = []
    for rank in ("0", None):
        monkeypatch.setenv("RANK", rank) if rank is not None else monkeypatch.delenv("RANK")
        with _ending.terminable():
            seen.append(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
    assert seen == [True, False]


PIPES = """
import os, sys
from flamingo_blocks.cli import doctor, main
reading, writing = os.pipe()
os.close(reading)
if sys.argv[1] == "output":
    os.dup2(writing, 1)

def work(*_, **__):
    os.write(writing, b"a")

doctor.check_machine = work
sys.exit(main(["doctor"]))
"""


@pytest.mark.parametrize(("broken", "told"), [("output", False), ("another", True)])
def test_a_pipe_that_breaks_is_told_unless_it_is_the_output(broken, told):
    """Who reads has seen enough of the output; another pipe, such as that of a worker, is an error like others."""
    ended = subprocess.run([sys.executable, "-c", PIPES, broken], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ("BrokenPipeError" in ended.stderr) is told
    assert told or not ended.stderr


def test_a_run_saves_the_step_at_hand_and_goes_on(capfd):
    """Status 130, a checkpoint at the step, and the rest by the same command."""
    Path("mine.py").write_text(RECIPE.replace("SIGTERM", "SIGINT"))
    assert main(["train", "mine.py", "steps=6", "stop_at=2", "--json"]) == 130
    printed = capfd.readouterr()
    assert json.loads(printed.out)["stopped_by"] == "SIGINT"
    assert json.loads(printed.out)["done"] == 3
    assert "the step at hand is ended and saved" in printed.err
    assert main(["train", "mine.py", "steps=6", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["first_step"] == 3
    assert [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()] == list(range(6))


def test_a_second_interrupt_does_not_wait(capfd):
    """The checkpoints before are whole, and the same command goes on."""
    kill = "os.kill(os.getpid(), signal.SIGTERM)"
    Path("mine.py").write_text(RECIPE.replace(kill, "[signal.raise_signal(signal.SIGINT) for _ in range(2)]"))
    assert main(["train", "mine.py", "steps=6", "stop_at=4"]) == 130
    assert "stopped; checkpoints are whole" in capfd.readouterr().err
    assert [path.name for path in Path("run/checkpoints").iterdir()]
    assert main(["train", "mine.py", "steps=6", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["first_step"] == 4


PREPARES = """
import signal
from pathlib import Path

import torch
from torch import nn

from flamingo_blocks.training import Objective, RunConfig, TrainConfig, train


def recipe() -> RunConfig:
    def prepare():
        batches = (torch.ones(1, 2) * (step != 1 or not signal.raise_signal(signal.NAME)) for step in range(3))
        part = Objective(name="part", batches=batches, loss=lambda model, rows: model(rows).mean())
        train(TrainConfig(model=nn.Linear(2, 1), objectives=[part], steps=3, lr=1e-3))
        Path("part").touch()

    return RunConfig(
        prepare=prepare, build=lambda: nn.Linear(2, 1), feed=lambda model: None, batches={}, steps=3, lr=1e-3,
        folder=Path("run"),
    )
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_parts_whose_training_is_stopped_are_not_taken_for_whole(number, status, capfd):
    """A run that is stopped while it prepares ends there, and says that nothing is saved."""
    Path("mine.py").write_text(PREPARES.replace("NAME", number.name))
    assert main(["train", "mine.py"]) == status
    assert not Path("part").exists()
    told = capfd.readouterr().err.splitlines()[-1]
    assert told == "flamingo-blocks: stopped; no step is saved yet, and the same command begins anew"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_demo_is_stopped_in_any_phase(number, status, monkeypatch, capfd):
    """Its parts are trained one after the other, and none goes on with a half of another."""

    def stopping(*given, **more):
        after.append(given)
        signal.raise_signal(number)
        return drawn(*given, **more)

    after = []
    drawn = tower.tint
    monkeypatch.setattr(tower, "tint", stopping)
    assert main(["demo", "--quick", "--out", "some"]) == status
    assert len(after) == 1
    assert "files of some are those of an earlier run" in capfd.readouterr().err


@pytest.mark.parametrize("work", ["write_record", "rounded_names"])
def test_a_conversion_is_written_whole_or_not_at_all(work, monkeypatch, capsys):
    """Before its last file there is nothing; behind it all."""
    lm = make_language_model("opt")
    lm.save_pretrained("opt")
    write_checkpoint(tiny_open_flamingo(lm=lm, every=1, vision_dim=16), Path("checkpoint.pt"))
    before = {path.name for path in Path().iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(convert, work, sends(signal.SIGINT))
        assert main(["convert", "checkpoint.pt", "--lm", "opt", "--out", "new/ours"]) == 130
    there = {path.name for path in Path().iterdir()} - before
    assert there == (set() if work == "write_record" else {"new"})


@pytest.mark.parametrize("kind", ["shards", "obelics-parquet", "jsonl"])
def test_documents_are_written_whole_or_not_at_all(kind, monkeypatch):
    """Wherever the signal comes."""
    write(Path("a.jsonl"), DOCUMENTS)

    def stopping(*given):
        yield from list(sound(*given))[:3]
        signal.raise_signal(signal.SIGTERM)

    sound = convert_data._sound
    monkeypatch.setattr(convert_data, "_sound", stopping)
    words = ["data", "convert", "a.jsonl", "--to", kind, "--out", "b", "--per-shard", "1"]
    assert main(words) == 143
    assert sorted(path.name for path in Path().iterdir()) == ["a.jsonl", "mine.py"]


def test_files_of_a_run_are_written_together(tmp_path, monkeypatch):
    """Stopped while they are made, those of the run before stay; stopped while they take their names, all are there
    before the signal ends the command.
    """
    (tmp_path / "a").write_text("old")

    def replace():
        with written_together(tmp_path) as beside:
            (beside / "a").write_text("new")
            if not moving:
                signal.raise_signal(signal.SIGINT)
            (beside / "sub").mkdir()
            (beside / "sub" / "b").write_text("new")

    moving = False
    with pytest.raises(KeyboardInterrupt):
        replace()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "mine.py"}
    assert (tmp_path / "a").read_text() == "old"
    moving, rename = True, Path.replace

    def stopped(self, other):
        signal.raise_signal(signal.SIGINT)
        return rename(self, other)

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        replace()
    assert {path.name for path in tmp_path.iterdir()} == {"a", "mine.py", "sub"}
    assert (tmp_path / "a").read_text() == (tmp_path / "sub" / "b").read_text() == "new"


def test_a_fault_of_ours_asks_to_be_reported(monkeypatch):
    """Below its trace; an error that a recipe raises does not."""

    def broken(*_, **__):
        raise KeyError("nobody foresaw it")

    with monkeypatch.context() as patched:
        patched.setattr(_ending, "is_ours", lambda _: True)
        patched.setattr(doctor, "check_machine", broken)
        with pytest.raises(KeyError) as raised:
            main(["doctor"])
    assert "please report it" in raised.value.__notes__[0]
    with pytest.raises(ValueError, match="of the recipe's own") as raised:
        main(["train", "mine.py:wrong"])
    assert not hasattr(raised.value, "__notes__")
