"""What runs in a worker: shard after shard, until it is told to stop, dies, or has no one left to work for."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from flamingo_blocks.data.build.attempt import Attempt, TooManyQuarantinedError
from flamingo_blocks.data.build.beat import Beat
from flamingo_blocks.data.build.shard_result import ShardResult
from flamingo_blocks.data.build.step import Shard
from flamingo_blocks.data.dropped import Dropped


@dataclass(frozen=True)
class Task:
    """A shard for a worker."""

    shard: Shard
    attempt: str
    skip: dict[int, Dropped]


@dataclass(frozen=True)
class Ready:
    """A worker has understood what to do."""


@dataclass(frozen=True)
class Refused:
    """Something could not be done, and whether it may go better another time."""

    detail: str
    may_retry: bool = True


Answer = Ready | ShardResult | Refused


def work(tasks: Connection, cell: Any, payload: bytes) -> None:
    """The main function of a worker process."""
    stay_apart()
    die_with_parent()
    torch.set_num_threads(1)  # there is a worker for each core
    try:
        step, folder, max_quarantined = pickle.loads(payload)  # noqa: S301 - from our own parent
    except BaseException as error:  # noqa: BLE001 - whatever the modules of a step raise
        with suppress(OSError):  # the parent has ended
            tasks.send(Refused(f"{type(error).__name__}: {error}"))
        return
    with suppress(EOFError, OSError):  # as above
        tasks.send(Ready())
        while True:
            task: Task = tasks.recv()
            attempt = Attempt(
                step, task.shard, folder,
                name=task.attempt, skip=task.skip, max_quarantined=max_quarantined, beat=Beat(cell),
            )  # fmt: skip
            tasks.send(answer_of(attempt))


def answer_of(attempt: Attempt) -> ShardResult | Refused:
    """Run an attempt, and say in words what it raises."""
    try:
        return attempt.run()
    except TooManyQuarantinedError as error:
        return Refused(str(error), may_retry=False)
    except Exception as error:  # noqa: BLE001 - whatever readers and writers raise
        return Refused(f"{type(error).__name__}: {error}")


def stay_apart() -> None:
    """Have a process group of one's own: a Ctrl-C is the parent's affair, and a kill reaches what a step started."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


def die_with_parent() -> None:
    """Leave no orphan when the parent is killed, not even one that hangs in native code and holds Python's lock.

    A thread waits for it; a hang that holds the lock would hold up the thread too. So on Linux the kernel is asked to
    send a signal when the pipe to the parent closes, and that signal kills. A parent-death signal would not do: the
    parent of a forked worker is the fork server, which lives as long as its workers.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    if sys.platform == "linux":
        import fcntl  # noqa: PLC0415 - not on every platform

        signal.signal(signal.SIGIO, signal.SIG_DFL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpgid(0))  # the whole group: what a step has started too
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, fcntl.fcntl(parent.sentinel, fcntl.F_GETFL) | os.O_ASYNC)
