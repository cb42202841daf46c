"""What a run writes about itself: lines, a bar, TensorBoard, and bad batches."""

import io
import itertools
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import distributed, nn

from flamingo_blocks.errors import MissingDependencyError
from flamingo_blocks.training import Objective, TrainConfig, train
from flamingo_blocks.training.step_report import StepReport
from flamingo_blocks.training.watching.bad_batches import BadBatches
from flamingo_blocks.training.watching.run_log import RunLog
from flamingo_blocks.training.watching.step_lines import StepLines, read_metrics
from tests.processes import run_together


def report(step, loss=2.5, **more):
    usual = {"tokens": {"pages": 300, "pairs": 100}, "items": {"pages": 30, "pairs": 10}, "lr": 1e-4, "seconds": 0.5}
    return StepReport(step, {"pages": loss}, 1.0, **(usual | more))


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self):
        return True


def test_a_run_of_train_writes_a_line_a_step(tmp_path):
    """`train` takes it as `on_step`, and the lines hold the losses that its reports hold."""
    objective = Objective(name="x", batches=itertools.repeat(torch.ones(1, 1)), loss=lambda m, x: m(x).square().mean())
    with RunLog(tmp_path / "run") as log:
        result = train(TrainConfig(model=nn.Linear(1, 1), objectives=[objective], steps=3, lr=0.1, on_step=log))
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert [line["losses"] for line in lines] == [each.losses for each in result.reports]
    assert all(line["memory_bytes"] > 0 for line in lines)


def test_a_line_holds_rates_and_what_was_measured(tmp_path):
    """Tokens and items in a second of all data sets; numbers and texts of the measures, each under its name."""
    measures = [lambda given: {"gates/0": 0.25}, lambda given: {"samples/cat": "NaN"} if given.step == 1 else {}]
    log = RunLog(tmp_path, measures=measures)
    log(report(0))
    log(report(1))
    first, second = read_metrics(tmp_path / "metrics.jsonl")
    assert (first["tokens_per_s"], first["items_per_s"]) == (800, 80)
    assert first["measured"] == {"gates/0": 0.25}
    assert "texts" not in first
    assert second["texts"] == {"samples/cat": "NaN"}


def test_a_run_that_goes_on_writes_no_step_twice(tmp_path):
    """A log of the same folder cuts off the steps behind its first one; a second run with one log does the same."""
    log = RunLog(tmp_path)
    for step in range(5):
        log(report(step, loss=1.0))
    again = RunLog(tmp_path)
    again(report(3, loss=2.0))
    assert [(line["step"], line["losses"]["pages"]) for line in read_metrics(tmp_path / "metrics.jsonl")] == [
        (0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0),
    ]  # fmt: skip
    again(report(0))
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [0]


def test_a_bar_is_shown_where_standard_error_is_a_terminal(tmp_path, monkeypatch):
    """It holds losses, tokens and images in a second, and steps with the time left; elsewhere nothing is shown."""
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    for kind, shown in ((Terminal, True), (io.StringIO, False)):
        monkeypatch.setattr(sys, "stderr", kind())
        with RunLog(tmp_path, steps=10) as log:
            log(report(3))
        said = sys.stderr.getvalue()
        assert ("pages=2.500, tokens/s=800, images/s=80" in said) == shown
        assert ("4/10" in said) == shown


def test_progress_can_be_asked_for_and_refused(tmp_path, monkeypatch):
    """A bar on what is no terminal, and none on what is one."""
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    for kind, progress in ((io.StringIO, True), (Terminal, False)):
        monkeypatch.setattr(sys, "stderr", kind())
        with RunLog(tmp_path, progress=progress) as log:
            log(report(0))
        assert ("pages=2.500" in sys.stderr.getvalue()) == progress


def test_packages_that_are_not_there_are_named(tmp_path, monkeypatch):
    """What was asked for is an error with the extra; a bar that was not asked for is left out."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(MissingDependencyError, match="'tensorboard'"):
        RunLog(tmp_path, tensorboard=True)
    with pytest.raises(MissingDependencyError, match="'tqdm'"):
        RunLog(tmp_path, progress=True)
    RunLog(tmp_path)(report(0))
    assert not sys.stderr.getvalue()


def test_tensorboard_shows_what_the_lines_hold(tmp_path):
    """Losses, rates, memory, gates and texts, each step once, also when a run went on before its last step."""
    pytest.importorskip("tensorboard", reason="the extra tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def measure(given):
        return {"gates/0": 0.25, "samples/cat": "a cat"}

    for start, stop, loss in ((0, 4, 1.0), (2, 5, 2.0)):
        with RunLog(tmp_path, measures=[measure], tensorboard=True) as log:
            for step in range(start, stop):
                log(report(step, loss=loss))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [(event.step, event.value) for event in events.Scalars("loss/pages")]
    assert losses == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0), (4, 2.0)]
    wanted = {"step/grad_norm", "step/lr", "step/tokens_per_s", "step/items_per_s", "step/memory_bytes", "gates/0"}
    assert wanted <= set(events.Tags()["scalars"])
    assert b"a cat" in events.Tensors("samples/cat/text_summary")[0].tensor_proto.string_val[0]


def test_batches_of_bad_steps_are_kept_and_the_last_ones_only(tmp_path):
    """A step whose loss or gradient is not finite has a line and a file; old files go, lines stay, and files of a run
    that was killed and went on before them go first.
    """
    bad = BadBatches(tmp_path, keep=2)
    bad(report(0), {"pages": torch.zeros(1)})
    assert not list(tmp_path.iterdir())
    for step in (3, 5, 8):
        bad(report(step, loss=float("nan")), {"pages": torch.full((2,), float(step))})
    bad(StepReport(9, {"pages": 1.0}, float("inf")), {"pages": torch.full((2,), 9.0)})
    files = sorted(file.name for file in (tmp_path / "bad_batches").iterdir())
    assert files == ["step-00000008.rank0.pt", "step-00000009.rank0.pt"]
    assert torch.load(tmp_path / "bad_batches" / files[0])["pages"].tolist() == [8.0, 8.0]
    assert [line["step"] for line in read_metrics(tmp_path / "bad_batches.jsonl")] == [3, 5, 8, 9]
    BadBatches(tmp_path, keep=2)(report(4, loss=float("inf")), {"pages": torch.zeros(1)})
    assert {file.name[:13] for file in (tmp_path / "bad_batches").iterdir()} == {"step-00000004", "step-00000009"}
    assert [line["step"] for line in read_metrics(tmp_path / "bad_batches.jsonl")] == [3, 4]


def test_sources_of_bad_batches_are_told_part_by_part(tmp_path):
    """As `train` hands batches over: in parts, each with the data set of its rows."""
    bad, parts = BadBatches(tmp_path), tuple(SimpleNamespace(source=[name]) for name in ("m3w", "other"))
    bad(report(3, loss=float("nan")), {"pages": parts, "pairs": (torch.zeros(1),)})
    assert read_metrics(tmp_path / "bad_batches.jsonl")[0]["sources"] == {"pages": ["m3w", "other"]}


def test_a_disk_that_is_full_ends_no_run(tmp_path, monkeypatch, caplog):
    """What cannot be written is told, and the next step goes on."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StepLines, "append", full)
    RunLog(tmp_path, progress=False)(report(0))
    BadBatches(tmp_path)(report(1, loss=float("nan")), {"pages": torch.zeros(1)})
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        f"step 0 is not in {tmp_path / 'metrics.jsonl'}", f"the batches of step 1 were not kept in {tmp_path}",
    ]  # fmt: skip


def test_keeping_no_file_is_refused(tmp_path):
    """The error says what was wanted."""
    with pytest.raises(ValueError, match="keep is 0, wanted 1 or more files"):
        BadBatches(tmp_path, keep=0)


def log_together(folder):
    """What each rank measured; both log into one folder."""
    measured = []

    def measure(given):
        total = torch.ones(1)
        distributed.all_reduce(total)  # would hang if one rank left it out
        measured.append(total.item())
        return {"ranks": total.item()}

    with RunLog(folder, measures=[measure], progress=True) as log:
        log(report(0))
        log(report(1))
    BadBatches(folder)(report(1, loss=float("nan")), {"pages": torch.tensor([float(distributed.get_rank())])})
    return measured


def test_rank_0_writes_andall_ranks_measure(tmp_path):
    """Two ranks leave one line a step; each keeps its own bad batches."""
    assert run_together(log_together, 2, tmp_path / "run", folder=tmp_path) == [[2.0, 2.0]] * 2
    assert [line["measured"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl")] == [{"ranks": 2.0}] * 2
    for rank, name in enumerate(("bad_batches.jsonl", "bad_batches.rank1.jsonl")):
        (line,) = read_metrics(tmp_path / "run" / name)
        assert torch.load(tmp_path / "run" / line["file"])["pages"].item() == line["rank"] == rank
