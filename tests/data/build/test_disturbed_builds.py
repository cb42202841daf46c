"""Whatever records and workers do, the output is that of the calm run without the records that are told."""

import json
import multiprocessing
import os
import select
import signal
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_blocks.data.build import LocalExecutor, read_quarantine, run_shards
from tests.data.build.steps import QUARANTINED, Lines, contents, expected, write_shards

CALM = st.sampled_from(["cat", "dog", "", "a bird\nin a tree"])
TROUBLE = st.sampled_from(["abort", "segfault", "leave", "kill", "exit", "fail", "once kill", "once segfault"])


@st.composite
def shards_with_trouble(draw, trouble=TROUBLE):
    """Some shards of some records, each record with a text of its own, a few of them with trouble."""
    shards = []
    for s in range(draw(st.integers(1, 3))):
        records = []
        for r in range(draw(st.integers(0, 6))):
            text = draw(CALM)
            record = {"text": f"{s}.{r} {text}" if text else ""}
            if record["text"] and draw(st.integers(0, 2)) == 0:
                record["do"] = draw(trouble)
            if draw(st.booleans()):
                record["removed"] = ["image_size"]
            records.append(record)
        shards.append(records)
    return shards


def check(folder, shards, report):
    """Each file is what plain code gives; each record is in it, dropped, or in quarantine, once."""
    reasons, quarantined = Counter(), []
    for number, records in enumerate(shards):
        wanted, lost = expected(records)
        assert (folder / "out" / f"{number:03}.jsonl").read_bytes() == wanted
        quarantined += [(f"{number:03}", *each) for each in lost]
        reasons.update(reason for _, reason, _ in lost)
        reasons["empty"] += sum(not record["text"] for record in records)
    assert [(q.shard, q.number, q.reason, q.detail) for q in report.quarantined] == quarantined
    assert report.reasons == dict(sorted((+reasons).items()))
    assert report.rows_in == sum(map(len, shards)) == report.rows + sum(report.reasons.values())
    assert report.complete and report.done == len(shards)
    for record in report.quarantined:
        assert read_quarantine(folder / "out", record) == shards[int(record.shard)][record.number]
    whole = json.loads((folder / "out" / "manifest.json").read_text())
    assert whole["rows"] == report.rows and len(whole["files"]) == len(shards)
    assert len(whole["quarantined"]) == len(quarantined)


@settings(max_examples=12)
@given(shards_with_trouble())
def test_records_that_kill_and_workers_that_are_killed_cost_nothing_else(shards):
    """A crash at any record: the calm run's bytes without the records that crash twice, each told once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_shards(folder / "in", shards)
        report = run_shards(Lines(folder), inputs, folder / "out", executor=LocalExecutor(2))
        check(folder, shards, report)
        kept = sum(len(r.get("removed", ())) for s in shards for r in s if r["text"] and r.get("do") not in QUARANTINED)
        assert report.removed == ({"image_size": kept} if kept else {})


@settings(max_examples=10)
@given(shards_with_trouble(trouble=st.sampled_from(["exit", "fail"])), st.integers(1, 3))
def test_a_build_does_not_depend_on_its_workers(shards, workers):
    """Every file of it, its records of itself included, is the same with many workers, with one and with none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        inputs = write_shards(folder / "in", shards)
        found = []
        for count in (0, workers):
            report = run_shards(Lines(folder), inputs, folder / "out", executor=LocalExecutor(count), overwrite=True)
            check(folder, shards, report)
            found.append(contents(folder / "out"))
            for path in (folder / "out" / "_build" / "shards").iterdir():
                path.unlink()
        assert found[0] == found[1]


@pytest.mark.parametrize("trouble", ["hang", "loop"])
def test_a_record_that_hangs_is_left_out(tmp_path, trouble):
    """In native code that holds Python's lock, and in Python; one that hangs once is kept."""
    shards = [[{"text": "a"}, {"text": "b", "do": trouble}, {"text": "c"}], [{"text": "d", "do": f"once {trouble}"}]]
    inputs = write_shards(tmp_path / "in", shards)
    report = run_shards(Lines(tmp_path), inputs, tmp_path / "out", executor=LocalExecutor(2, timeout_s=1.0))
    check(tmp_path, shards, report)


def test_a_record_that_takes_too_much_memory_is_left_out(tmp_path):
    """Before the machine has none left."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("memory is watched on Linux alone")
    inputs = write_shards(tmp_path / "in", [[{"text": "a"}, {"text": "b", "do": "allocate"}, {"text": "c"}]])
    report = run_shards(Lines(tmp_path), inputs, tmp_path / "out", executor=LocalExecutor(1, memory_limit_mb=900))
    (record,) = report.quarantined
    assert (record.number, record.reason, record.detail) == (1, "memory", "more than 900 MiB")
    assert (tmp_path / "out" / "000.jsonl").read_bytes() == expected([{"text": "a"}, {"text": "c"}])[0]


def test_a_worker_killed_from_outside_loses_nothing(tmp_path):
    """By `kill -9`, as soon as it is at work."""
    shards = [[{"text": f"{s}.{r}"} for r in range(2000)] for s in range(4)]
    inputs = write_shards(tmp_path / "in", shards)
    killed = []

    def kill_one(progress):
        if progress.records and not killed:
            killed.append(multiprocessing.active_children()[0].pid)
            os.kill(killed[0], signal.SIGKILL)

    shards[2][1999]["do"] = "once loop"  # keeps one at work until the deadline, however fast the others are
    inputs = write_shards(tmp_path / "in", shards)
    executor = LocalExecutor(2, timeout_s=1.0)
    report = run_shards(Lines(tmp_path), inputs, tmp_path / "out", executor=executor, on_progress=kill_one)
    assert killed
    assert not report.quarantined
    check(tmp_path, shards, report)


def test_two_deaths_are_a_records_fault(tmp_path):
    """One is not, and a third is not waited for."""
    shards = write_shards(tmp_path / "in", [[{"text": "a", "do": "once kill"}, {"text": "b", "do": "twice kill"}]])
    report = run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(1))
    assert [(record.number, record.reason) for record in report.quarantined] == [(1, "crash")]


@pytest.mark.parametrize(("trouble", "reason"), [("start and hang", "timeout"), ("start and leave", "crash")])
def test_what_a_record_has_started_is_killed_with_its_worker(tmp_path, monkeypatch, trouble, reason):
    """A program that holds a pipe: the pipe closes. Paths are those of the builder, wherever workers begin."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    pipe = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    shards = write_shards(Path("in"), [[{"text": "a", "do": trouble}, {"text": "b"}]])
    report = run_shards(Lines(Path()), shards, "out", executor=LocalExecutor(1, timeout_s=0.5))
    assert [record.reason for record in report.quarantined] == [reason]
    poll = select.poll()
    poll.register(pipe, select.POLLHUP)
    assert poll.poll(60_000), "the program is still there"
    os.close(pipe)
    assert Path("out", "000.jsonl").read_bytes() == expected([{"text": "b"}])[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_of_which_too_much_fails_is_no_matter_of_records(tmp_path, workers):
    """Then something else is broken: the shard fails, says so, and is not tried again."""
    inputs = write_shards(tmp_path / "in", [[{"text": f"{r}", "do": "fail"} for r in range(4)], [{"text": "a"}]])
    executor = LocalExecutor(workers, max_quarantined=3)
    report = run_shards(Lines(tmp_path), inputs, tmp_path / "out", executor=executor)
    last = "the last is record 3, error: ValueError: this record is no good"
    assert report.failed == {"000": f"more than 3 records cannot be processed; {last}"}
    assert report.rows == 1


def test_a_shard_whose_records_kill_on_and_on_is_given_up(tmp_path):
    """After as many deaths as its quarantine has room for."""
    inputs = write_shards(tmp_path / "in", [[{"text": f"{r}", "do": "leave"} for r in range(9)], [{"text": "a"}]])
    report = run_shards(Lines(tmp_path), inputs, tmp_path / "out", executor=LocalExecutor(1, max_quarantined=2))
    assert report.failed == {"000": "workers died of 3 records; the last is record 2, crash: exit code 3"}
    assert report.rows == 1
