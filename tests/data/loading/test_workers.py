"""Workers change nothing but the time; one that dies or fails is told, and none stays behind."""

import errno
import gc
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flamingo_blocks.data.loading import DataStream, Mixture, WorkerDiedError
from flamingo_blocks.data.loading.packed import pack, unpack
from flamingo_blocks.data.loading.workers import _context, _serve
from tests.data.loading.killed_run import kept_lines, run, run_reporting
from tests.data.loading.toy_sources import (
    WHOLE,
    FailsInWorkers,
    NeverEnds,
    digest,
    mixture,
    rows,
    source,
)

ROOT = Path(__file__).parents[3]
PATIENCE_S = 60  # until a process that should end is said not to; nothing waits as long when all is well


def workers_of(stream):
    return list(stream._feeds._pool._processes)


def alive(pid):
    """Whether a process runs; one that ended and was not asked how (a zombie) counts as running."""
    return Path(f"/proc/{pid}").exists()


def wait_until_gone(pids):
    end = time.monotonic() + PATIENCE_S
    while left := [pid for pid in pids if alive(pid)]:
        assert time.monotonic() < end, f"{left} are still there"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def steps():
    """The digests of the uninterrupted run, made without workers."""
    run_alone = mixture(WHOLE)
    return [digest(next(run_alone)) for _ in range(12)], run_alone.dropped


@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 4), (4, 2), (2, 0)])
def test_workers_change_no_byte(steps, before, after):
    """Prefix and resumed suffix are the uninterrupted run with any number of workers on either side, and counts of
    dropped samples are of what was handed out, not of what was made ahead.
    """
    expected, dropped = steps
    with mixture(WHOLE, num_workers=before) as first:
        seen = [digest(next(first)) for _ in range(5)]
        state = first.state_dict()
        assert {kept["batches"] for kept in state["sources"].values()} == {5}
    with mixture(WHOLE, num_workers=after) as second:
        second.load_state_dict(state)
        seen += [digest(next(second)) for _ in range(7)]
        assert seen == expected
        for name, counts in dropped.items():
            for reason, count in counts.items():
                assert first.dropped[name].get(reason, 0) + second.dropped[name].get(reason, 0) == count


def test_ranks_have_workers_of_their_own(steps):
    """Two ranks with two workers each make the halves of every batch."""
    alone = mixture()
    with mixture(rank=0, world_size=2, num_workers=2) as low, mixture(rank=1, world_size=2, num_workers=2) as high:
        for _ in range(3):
            parts = zip(next(low).values(), next(high).values(), strict=True)
            assert [rows(a) + rows(b) for a, b in parts] == [rows(batch) for batch in next(alone).values()]


def test_a_state_may_be_loaded_while_workers_run(steps):
    """What workers made ahead is forgotten."""
    with mixture(WHOLE, num_workers=2) as data:
        start = data.state_dict()
        assert [digest(next(data)) for _ in range(4)] == steps[0][:4]
        data.load_state_dict(start)
        assert [digest(next(data)) for _ in range(4)] == steps[0][:4]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_worker_is_an_error_and_no_hang(steps, killed):
    """The error says which process and what it was at; no batch is lost, for the next call starts new workers."""
    with mixture(WHOLE, num_workers=2) as data:
        seen = [digest(next(data)) for _ in range(2)]
        before = [process.pid for process in workers_of(data)]
        os.kill(before[killed], signal.SIGKILL)
        with pytest.raises(
            WorkerDiedError, match=rf"worker {killed} \(process {before[killed]}\) was ended by SIGKILL"
        ):
            seen.extend(digest(step) for step in data)
        wait_until_gone(before)
        while len(seen) < 8:
            seen.append(digest(next(data)))
    assert seen == steps[0][:8]


def test_a_worker_killed_at_work_is_told():
    """A worker that dies within a batch ends the wait for it."""
    with DataStream(source(make=NeverEnds, shuffle=False), seed=0, num_workers=1, prefetch=1) as stream:
        next(stream)
        (process,) = workers_of(stream)
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(WorkerDiedError, match="at batch 1 of source 'numbers'. No batch is lost"):
            next(stream)


@pytest.mark.parametrize(("broken", "kind", "says"), [(5, RuntimeError, "two arguments"), (6, KeyError, "width")])
def test_what_make_raises_arrives(broken, kind, says):
    """An error comes through as it is where it can be pickled, with the place and the traceback of the worker."""
    plain = source(make=FailsInWorkers, size=broken + 1, batch_size=1, shuffle=False)
    with DataStream(plain, seed=0, num_workers=1) as stream:
        state = stream.state_dict()
        state["sources"]["numbers"]["batches"] = broken
        stream.load_state_dict(state)
        with pytest.raises(kind, match=says) as info:
            next(stream)
    told = str(info.value) + "".join(getattr(info.value, "__notes__", []))
    assert "in __call__" in told
    assert f"this was sample {broken} of source 'numbers'" in told


def test_other_trouble_is_not_laid_at_a_worker_that_lives(monkeypatch):
    """What the system says while a batch is received is raised as it is, and the workers are ended."""

    def too_many_files(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with DataStream(source(), seed=0, num_workers=1) as stream:
        next(stream)
        (pid,) = [process.pid for process in workers_of(stream)]
        monkeypatch.setattr("flamingo_blocks.data.loading.workers._SECONDS_TO_END", 0.05)
        monkeypatch.setattr("multiprocessing.connection.Connection.recv", too_many_files)
        with pytest.raises(OSError, match="Too many open files"):  # behind batches that were received before
            list(islice(stream, 8))
    wait_until_gone([pid])


def test_what_cannot_be_pickled_is_refused():
    """A lambda cannot travel: the error says so before any worker starts."""
    stream = DataStream(source(make=lambda _: lambda document, key: None), seed=0, num_workers=1)
    with pytest.raises(ValueError, match="cannot be sent to workers.*top of a module, or take num_workers=0"):
        next(stream)


def test_a_worker_has_one_thread_and_leaves_interrupts_to_others():
    """Workers do not fight for the cores, and Ctrl-C is for the process that asks for batches."""
    ours, theirs = multiprocessing.Pipe()
    ours.close()
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGINT)
    try:
        torch.set_num_threads(2)
        _serve(theirs, b"")
        assert torch.get_num_threads() == 1
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        torch.set_num_threads(threads)
        signal.signal(signal.SIGINT, handler)


@pytest.mark.parametrize("how", ["close", "with", "forget", "interrupt"])
def test_no_process_stays_behind(how, monkeypatch):
    """Workers end with the stream: closed, left, forgotten, or interrupted while it waits."""
    stream = DataStream(source(make=NeverEnds, shuffle=False), seed=0, num_workers=2, prefetch=1)
    next(stream)
    pids = [process.pid for process in workers_of(stream)]
    assert all(alive(pid) for pid in pids)
    if how == "close":
        stream.close()
        stream.close()
    elif how == "with":
        with stream:
            pass
    elif how == "forget":
        del stream
        gc.collect()
    else:

        def interrupted(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("flamingo_blocks.data.loading.workers.wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            next(stream)
    wait_until_gone(pids)


def test_workers_end_with_the_process_that_started_them():
    """A run that is killed leaves no worker."""
    context = _context(None)
    ours, theirs = context.Pipe()
    process = context.Process(target=_tell_workers_and_wait, args=(theirs,))
    process.start()
    theirs.close()
    pids = ours.recv()
    process.kill()
    process.join()
    wait_until_gone(pids)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_leaves_the_workers_alone(steps):
    """A copy of the process, such as a loader of somebody else starts, forgets its copy of the stream without harm."""
    with mixture(WHOLE, num_workers=1) as data:
        seen = [digest(next(data))]
        if not (child := os.fork()):
            data.close()
            os._exit(0)
        os.waitpid(child, 0)
        seen += [digest(next(data)) for _ in range(5)]
    assert seen == steps[0][:6]


def _tell_workers_and_wait(connection):
    stream = Mixture([source()], seed=0, num_workers=2)
    next(stream)
    connection.send([process.pid for process in workers_of(stream)])
    connection.recv()


def test_a_run_killed_at_twenty_points_gives_the_same_bytes(tmp_path):
    """A run that is killed twenty times, and goes on from the last state it wrote, with workers or without, has the
    steps of the run that was left alone.
    """
    draw, steps = random.Random(0), 60  # noqa: S311 - no secret
    journal, calm = tmp_path / "killed.jsonl", tmp_path / "calm.jsonl"
    context = _context(None)
    for kill in range(20):
        ours, theirs = context.Pipe()
        arguments = {"steps": 10_000, "num_workers": 2 if kill % 5 == 4 else 0, "connection": theirs}
        process = context.Process(target=run_reporting, args=(journal,), kwargs=arguments)
        process.start()
        theirs.close()
        for _ in range(draw.randrange(4)):
            ours.recv()
        process.kill()
        process.join()
        ours.close()
    steps = max(steps, len(kept_lines(journal)) + 5)
    run(journal, steps=steps, num_workers=0)
    run(calm, steps=steps, num_workers=0)
    assert kept_lines(journal) == kept_lines(calm)


@pytest.mark.full
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_script_killed_at_twenty_points_gives_the_same_bytes(tmp_path, num_workers):
    """The same for a script of its own, killed after a time and not after a step."""
    draw, steps = random.Random(num_workers), 3000  # noqa: S311 - no secret
    journal, calm = tmp_path / "killed.jsonl", tmp_path / "calm.jsonl"
    command = [sys.executable, "-m", "tests.data.loading.killed_run", str(journal), str(steps), str(num_workers)]
    for _ in range(20):
        with subprocess.Popen(command, cwd=ROOT) as process:
            before = len(kept_lines(journal))
            while process.poll() is None and len(kept_lines(journal)) <= before:
                time.sleep(0.01)
            time.sleep(draw.random() / 4)
            process.kill()
    assert len(kept_lines(journal)) < steps
    steps = len(kept_lines(journal)) + 20
    run(journal, steps=steps, num_workers=0)
    run(calm, steps=steps, num_workers=0)
    assert kept_lines(journal) == kept_lines(calm)


dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool, torch.uint8])
shapes = st.lists(st.integers(0, 4), max_size=4)


@given(st.lists(st.tuples(shapes, dtypes, st.booleans()), max_size=5))
def test_what_is_packed_comes_out_the_same(kinds):
    """Tensors of any shape, dtype and stride, and what stands around them, travel unchanged."""
    tensors = []
    for shape, dtype, turned in kinds:
        tensor = (torch.arange(torch.Size(shape).numel()).reshape(shape) % 7).to(dtype)
        tensors.append(tensor.mT if turned and tensor.ndim > 1 else tensor)
    value = {"tensors": tensors, "rest": ("text", 1.5, None)}
    packed = pack(value)
    assert packed.memory is None or packed.memory.is_shared()
    found = unpack(packed)
    assert found["rest"] == value["rest"]
    for before, after in zip(tensors, found["tensors"], strict=True):
        assert after.dtype == before.dtype
        assert torch.equal(after, before)


def test_a_batch_outlives_its_workers():
    """The memory of a batch belongs to whoever has the batch."""
    with DataStream(source(collate=WHOLE), seed=0, num_workers=1) as stream:
        batch = next(stream)
    assert torch.equal(batch.pixels[:, 0, 0, 0, 0].long(), batch.input_ids[:, 0])
    assert batch.layout.last[:, 1].tolist() == [0, 0, 0, 0]
