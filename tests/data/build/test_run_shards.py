"""Builds that are resumed, refused, looked at; shards that fail."""

import json
import os
import subprocess
import sys
import warnings
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.build import (
    BuildProgress,
    LocalExecutor,
    RayExecutor,
    Shard,
    ShardResult,
    read_quarantine,
    run_shards,
)
from flamingo_blocks.errors import MissingDependencyError
from tests.data.build.steps import Lines, contents, write_shards

ROOT = Path(__file__).parents[3]
HERE = LocalExecutor(0, retries=1)
TEXTS = [[{"text": "a"}, {"text": ""}], [{"text": "b"}], []]


@pytest.fixture
def built(tmp_path):
    """A step, its shards, and the folder of a build that is done."""
    shards = write_shards(tmp_path / "in", TEXTS)
    step = Lines(tmp_path, config={"min": 1, "names": {"a": [1, 2]}})
    run_shards(step, shards, tmp_path / "out", executor=HERE)
    return step, shards, tmp_path / "out"


def test_what_is_done_is_not_done_again(built):
    """The same call finds all there, and reports the same sums."""
    step, shards, out = built
    before = contents(out)
    for shard in shards:
        shard.source.unlink()
    report = run_shards(step, shards, out, executor=HERE)
    assert (report.done, report.skipped, report.rows_in, report.rows, report.reasons) == (0, 3, 3, 2, {"empty": 1})
    assert contents(out) == before


@pytest.mark.parametrize("damage", ["file is missing", "file is cut", "manifest is missing", "manifest is empty"])
def test_a_shard_that_is_not_whole_is_done_again(built, damage):
    """And no other."""
    step, shards, out = built
    before = contents(out)
    what, _, how = damage.partition(" is ")
    path = out / "001.jsonl" if what == "file" else out / "_build" / "shards" / "001.json"
    if how == "missing":
        path.unlink()
    else:
        os.truncate(path, 0)
    report = run_shards(step, shards, out, executor=HERE)
    assert (report.done, report.skipped) == (1, 2)
    assert contents(out) == before


def test_bytes_are_looked_at_when_asked(built):
    """A file that was changed and kept its size is found by its hash alone."""
    step, shards, out = built
    before = contents(out)
    (out / "000.jsonl").write_bytes(before["000.jsonl"][::-1])
    assert run_shards(step, shards, out, executor=HERE).done == 0
    assert run_shards(step, shards, out, executor=HERE, verify="sha256").done == 1
    assert contents(out) == before


def test_leftovers_are_removed(built):
    """What a killed run was writing is gone before the work begins, what killed workers leave when it ends, and what
    only looks like it stays.
    """
    step, shards, out = built
    before = contents(out)
    (out / "000.jsonl").unlink()
    left = [out / ".unfinished-1.ab-000.jsonl", out / "_build" / "shards" / ".unfinished-1-000.json"]
    (out / "notes.tmp").write_text("mine")

    def look(progress):
        seen.extend(path.exists() for path in left)
        for path in left:
            path.write_text("half")

    for path in left:
        path.write_text("half")
    seen: list[bool] = []
    run_shards(step, shards, out, executor=HERE, on_progress=look)
    assert seen[:2] == [False, False]
    assert contents(out) == {**before, "notes.tmp": b"mine"}


def test_a_lock_ends_with_its_builder(built):
    """A process forked by it, which lives on, does not hold it."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    step, shards, out = built
    (out / "000.jsonl").unlink()
    waits, ends = os.pipe()
    children: list[int] = []

    def fork(progress):
        if children:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads are no matter to a child that waits
            pid = os.fork()
        if pid == 0:
            os.close(ends)
            os.read(waits, 1)
            os._exit(0)
        children.append(pid)

    try:
        assert run_shards(step, shards, out, executor=HERE, on_progress=fork).complete
        assert run_shards(step, shards, out, executor=HERE).skipped == 3
    finally:
        os.close(ends)
        os.close(waits)
        os.waitpid(children[0], 0)


def test_another_configuration_is_refused(built):
    """With what differs, and nothing touched."""
    step, shards, out = built
    before = contents(out)
    other = replace(step, config={"min": 2, "names": {"a": [1, 3]}, "max": None})
    told = r"config.max is nothing there and None here; config.min is 1 there and 2 here; config.names.a is \[1, 2\]"
    with pytest.raises(ValueError, match=told):
        run_shards(other, shards, out, executor=HERE)
    assert contents(out) == before


def test_another_configuration_overwrites_when_asked(built):
    """All is done anew; and once begun, goes on without being asked again."""
    step, shards, out = built
    other = replace(step, config={"min": 2})
    assert run_shards(other, shards[:1], out, executor=HERE, overwrite=True).done == 1
    # What the other build wrote is gone, or old and new data would be read together.
    assert [path.name for path in sorted(out.glob("*.jsonl"))] == ["000.jsonl"]
    report = run_shards(other, shards, out, executor=HERE)
    assert (report.done, report.skipped) == (2, 1)
    assert json.loads((out / "manifest.json").read_text())["config"] == {"min": 2}


def test_a_configuration_that_comes_back_finds_nothing_of_its_own(built):
    """Its shards were overwritten since, and none is taken for done."""
    step, shards, out = built
    before = contents(out)
    run_shards(replace(step, config={"min": 2}), shards, out, executor=HERE, overwrite=True)
    report = run_shards(step, shards, out, executor=HERE, overwrite=True)
    assert report.skipped == 0
    assert contents(out) == before


def test_a_build_is_complete_when_its_manifest_is_there(tmp_path):
    """A shard that cannot be read fails after its retries; the others go on; the next run does the rest."""
    shards = write_shards(tmp_path / "in", [[{"text": "a"}], [{"text": "b", "read": "fail"}], [{"text": "c"}]])
    out = tmp_path / "out"
    report = run_shards(Lines(tmp_path), shards, out, executor=HERE)
    assert report.failed == {"001": "ValueError: this record is no good"}
    assert not report.complete
    assert (report.done, report.rows) == (2, 2)
    assert not (out / "manifest.json").exists()
    assert sorted(path.name for path in out.glob("*")) == ["000.jsonl", "002.jsonl", "_build"]
    shards[1].source.write_text('{"text": "b"}\n')
    report = run_shards(Lines(tmp_path), shards, out, executor=HERE)
    assert (report.complete, report.done, report.skipped) == (True, 1, 2)
    assert [each["file"] for each in json.loads((out / "manifest.json").read_text())["files"]] == [
        "000.jsonl", "001.jsonl", "002.jsonl",
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("phase", ["read", "write"])
def test_a_shard_is_tried_again(tmp_path, workers, phase):
    """One that fails once is done; one that fails on and on is told."""
    shards = write_shards(tmp_path / "in", [[{"text": "a", phase: "once fail"}], [{"text": "b", phase: "fail"}]])
    report = run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(workers, retries=1))
    assert report.failed == {"001": "ValueError: this record is no good"}
    assert report.rows == 1


@pytest.mark.parametrize("phase", ["read", "write"])
def test_a_crash_of_a_reader_or_writer_is_the_shards(tmp_path, phase):
    """No record is to blame, so none is left out: the shard fails after its retries, and the others go on."""
    records = [{"text": "a"}, {"text": "b", phase: "leave"}]
    shards = write_shards(tmp_path / "in", [records, [{"text": "c"}]])
    report = run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(1, retries=1))
    assert report.failed == {"000": f"exit code 3 while {phase.removesuffix('e')}ing record 1"}
    assert report.rows == 1
    assert not report.quarantined


def test_a_reader_that_hangs_is_the_shards(tmp_path):
    """It has its own, longer limit."""
    shards = write_shards(tmp_path / "in", [[{"text": "a", "read": "loop"}], [{"text": "c"}]])
    executor = LocalExecutor(2, retries=0, timeout_s=0.1, io_timeout_s=0.5)
    report = run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=executor)
    assert report.failed == {"000": "silent for 0.5 s while reading record 0"}


@dataclass(frozen=True)
class Careless(Lines):
    """A writer that stops early, or writes nothing."""

    takes: int = 0

    def write(self, results, file):
        if self.takes:
            file.touch()
            next(iter(results))


@pytest.mark.parametrize(("takes", "told"), [(1, "lines.write did not take all results"), (0, "did not take all")])
def test_a_writer_that_loses_results_is_told(tmp_path, takes, told):
    """Nothing is lost in silence, and no half of a file is left."""
    shards = write_shards(tmp_path / "in", [[{"text": "a"}, {"text": "b"}]])
    report = run_shards(Careless(tmp_path, takes=takes), shards, tmp_path / "out", executor=HERE)
    assert told in report.failed["000"]
    assert [path.name for path in (tmp_path / "out").glob("*")] == ["_build"]


class Page:
    """A record that knows how many of its kind there are."""

    alive: ClassVar[weakref.WeakSet] = weakref.WeakSet()

    def __init__(self):
        self.alive.add(self)


@dataclass(frozen=True)
class Streaming(Lines):
    """As many records as one likes, each as a result, one at a time."""

    def read(self, shard):
        for _ in range(100):
            yield Page()

    def process(self, record):
        return record

    def write(self, results, file):
        most = max(len(Page.alive) for _ in results)
        file.write_text(str(most))


def test_records_stream(tmp_path):
    """While one is made, the one before is the only other that is held."""
    assert run_shards(Streaming(tmp_path), [Shard("a")], tmp_path / "out", executor=HERE).rows == 100
    assert int((tmp_path / "out" / "a.jsonl").read_text()) <= 2


@pytest.mark.parametrize(
    "name", ["", ".hidden", "a/b", "..", "a b", "x" * 201, "é", "_build", "a\n"], ids=lambda name: repr(name[:9])
)
def test_names_that_are_no_names_of_files_are_refused(tmp_path, name):
    """Before anything is made."""
    with pytest.raises(ValueError, match="shard name is"):
        run_shards(Lines(tmp_path), [Shard(name)], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_stand_twice_are_refused(tmp_path):
    """Each becomes a file."""
    with pytest.raises(ValueError, match="shard name 'a' stands twice"):
        run_shards(Lines(tmp_path), [Shard("a"), Shard("b"), Shard("a")], tmp_path / "out")


def test_the_manifest_of_the_build_is_no_shard(tmp_path):
    """Neither is a suffix without a point."""
    with pytest.raises(ValueError, match="another file than 'manifest.json'"):
        run_shards(Lines(tmp_path, suffix=".json"), [Shard("manifest")], tmp_path / "out")
    with pytest.raises(ValueError, match="suffix of the step is 'tar'"):
        run_shards(Lines(tmp_path, suffix="tar"), [Shard("a")], tmp_path / "out")


@pytest.mark.parametrize("value", [float("nan"), {1}, object()], ids=["nan", "set", "object"])
def test_a_configuration_that_cannot_be_compared_is_refused(tmp_path, value):
    """By JSON's own words."""
    with pytest.raises(ValueError, match="config of step 'lines' cannot be written as JSON"):
        run_shards(Lines(tmp_path, config={"value": value}), [Shard("a")], tmp_path / "out")


def test_a_step_that_cannot_travel_is_refused(tmp_path):
    """Its class must stand in a module."""

    class Local(Lines):
        pass

    shards = write_shards(tmp_path / "in", [[{"text": "a"}]])
    with pytest.raises(ValueError, match="step is .*Local.*cannot be pickled"):
        run_shards(Local(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(1))
    assert run_shards(Local(tmp_path), shards, tmp_path / "out", executor=HERE).complete


class Unloadable(Lines):
    """What can be pickled and not be loaded again."""

    def __reduce__(self):
        return (int, ("no number",))


def test_a_step_that_no_worker_can_load_ends_the_build(tmp_path):
    """With what the worker said."""
    shards = write_shards(tmp_path / "in", [[{"text": "a"}]])
    with pytest.raises(RuntimeError, match="a worker cannot load the step.*invalid literal"):
        run_shards(Unloadable(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(1))


class Deadly(Lines):
    """What kills who loads it."""

    def __reduce__(self):
        return (os._exit, (5,))


def test_workers_that_never_start_end_the_build(tmp_path):
    """After some of them."""
    shards = write_shards(tmp_path / "in", [[{"text": "a"}]])
    with pytest.raises(RuntimeError, match="3 workers died before they were ready: exit code 5"):
        run_shards(Deadly(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(1))


def test_two_builds_in_one_folder_are_refused(built):
    """The second, while the first is at work."""
    step, shards, out = built
    (out / "000.jsonl").unlink()

    def build_too(progress):
        if told:
            return
        code = "import sys; from tests.data.build.killed_builds import *; build_again(*sys.argv[1:])"
        command = [sys.executable, "-c", code, str(out)]
        told.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr)

    told: list[str] = []
    assert run_shards(step, shards, out, executor=HERE, on_progress=build_too).complete
    assert "RuntimeError: another build is at work in" in told[0]


OPTIONS = {"workers": -1, "timeout_s": 0.0, "io_timeout_s": -1.0, "retries": -1, "max_quarantined": -2}


@pytest.mark.parametrize("name", OPTIONS)
def test_numbers_out_of_range_are_told(name):
    """By name and value."""
    with pytest.raises(ValueError, match=f"{name} is {OPTIONS[name]}, wanted"):
        LocalExecutor(**{name: OPTIONS[name]})


def test_progress_counts_up_to_the_end(tmp_path):
    """Shards and records, never backwards in a calm build; the first shards were done before."""
    shards = write_shards(tmp_path / "in", [[{"text": f"{s}.{r}"} for r in range(10)] for s in range(6)])
    run_shards(Lines(tmp_path), shards[:2], tmp_path / "out", executor=HERE)
    for workers in (0, 2):
        seen: list[BuildProgress] = []
        for path in (tmp_path / "out" / "_build" / "shards").glob("00[2-5].json"):
            path.unlink()
        run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(workers), on_progress=seen.append)
        assert (seen[-1].shards, seen[-1].skipped, seen[-1].done, seen[-1].failed, seen[-1].records) == (6, 2, 4, 0, 40)
        assert [each.records for each in seen] == sorted(each.records for each in seen)
        assert seen[-1].seconds_left == 0


def test_an_error_of_who_watches_ends_the_build_and_its_workers(tmp_path):
    """Nothing unfinished is left."""
    import multiprocessing

    shards = write_shards(tmp_path / "in", [[{"text": "a", "do": "loop"}]])

    def refuse(progress):
        raise KeyError(progress.shards)

    with pytest.raises(KeyError):
        run_shards(Lines(tmp_path), shards, tmp_path / "out", executor=LocalExecutor(1), on_progress=refuse)
    assert not multiprocessing.active_children()
    assert [path.name for path in (tmp_path / "out").glob("*")] == ["_build"]


@dataclass(frozen=True)
class Lazy:
    """An executor that forgets what it was given."""

    def run(self, step, shards, folder, *, on_records):
        yield from ()


def test_a_shard_that_an_executor_forgets_has_failed(built):
    """It is never taken as done."""
    step, shards, out = built
    (out / "001.jsonl").unlink()
    report = run_shards(step, shards, out, executor=Lazy())
    assert report.failed == {"001": "never tried"}
    assert not (out / "manifest.json").exists()


def test_ray_is_asked_for_by_name(monkeypatch):
    """Where it is missing."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match="RayExecutor needs the package 'ray'"):
        RayExecutor()


def test_what_is_not_in_quarantine_cannot_be_read(built):
    """By the names of shard and record."""
    from flamingo_blocks.data.build import Quarantined

    with pytest.raises(KeyError, match="record 3 of shard '000' is not in quarantine"):
        read_quarantine(built[2], Quarantined("000", 3, "crash", "", ""))


@given(st.text(max_size=40))
def test_what_is_no_manifest_is_told(text):
    """Whatever a disk made of it."""
    with pytest.raises(ValueError, match="is no manifest of a shard"):
        ShardResult.from_json(text)


def test_a_manifest_says_what_it_was_made_of(built):
    """Written and read again, it is the same."""
    text = (built[2] / "_build" / "shards" / "000.json").read_text()
    assert ShardResult.from_json(text).to_json() == text
