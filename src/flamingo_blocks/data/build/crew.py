"""The workers of one run, watched: who is silent for too long or grows too large is killed, who dies is replaced."""

import os
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from flamingo_blocks.data.build.beat import Beat, Phase
from flamingo_blocks.data.build.build_folder import BuildFolder
from flamingo_blocks.data.build.shard_result import ShardFailure, ShardResult
from flamingo_blocks.data.build.step import Shard
from flamingo_blocks.data.build.worker import Ready, Refused, Task, work
from flamingo_blocks.data.dropped import Dropped
from flamingo_blocks.data.process_end import signal_name

LOOK_EVERY_S = 0.05
STRIKES = 2  # deaths at one record, after which it is the record's fault
START_S = 60.0  # of silence while a worker imports what it needs, which takes its time on a busy machine
FALSE_STARTS = 3  # workers that die before they are ready, after which there will be none


@dataclass(frozen=True)
class Limits:
    """When a worker is killed, and when a shard is given up; `LocalExecutor` says more."""

    timeout_s: float
    io_timeout_s: float
    memory_limit_mb: int | None
    retries: int
    max_quarantined: int


@dataclass
class _Case:
    """A shard, and what went wrong with it so far."""

    shard: Shard
    strikes: dict[int, int] = field(default_factory=dict)
    skip: dict[int, Dropped] = field(default_factory=dict)
    failures: int = 0


class _Worker:
    """A worker process, seen from outside."""

    def __init__(self, context: BaseContext, payload: bytes) -> None:
        self.cell: Any = context.RawArray("q", 1)
        self.tasks: Connection
        self.tasks, theirs = context.Pipe()
        process: Any = context.Process  # type: ignore[attr-defined]  # each context has its own
        self.process = process(target=work, args=(theirs, self.cell, payload), daemon=True)
        self.process.start()
        theirs.close()
        self.ready = False
        self.case: _Case | None = None
        self.attempt = ""
        self.seen, self.since = -1, time.monotonic()

    def give(self, case: _Case) -> None:
        self.case, self.attempt = case, secrets.token_hex(8)
        self.cell[0] = 0
        self.seen, self.since = -1, time.monotonic()
        self.tasks.send(Task(case.shard, self.attempt, dict(case.skip)))

    def silent_s(self) -> float:
        """Seconds since it last said where it is."""
        if (now := self.cell[0]) != self.seen:
            self.seen, self.since = now, time.monotonic()
        return time.monotonic() - self.since

    def resident_mb(self) -> float:
        """Memory that it has now, as Linux tells."""
        try:
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):  # it died meanwhile
            return 0.0
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def kill(self) -> None:
        """End it, and what its step has started."""
        with suppress(OSError, AttributeError):  # it has no group, or none is left in it, or the system knows none
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join()
        self.process.close()
        self.tasks.close()


class Crew:
    """The workers of one run.

    Args:
        context: How processes are started.
        payload: What each is told at its start, pickled.
        folder: Where the output goes.
        limits: When a worker is killed, and when a shard is given up.
        size: Workers at a time.
    """

    def __init__(self, context: BaseContext, payload: bytes, folder: BuildFolder, limits: Limits, size: int) -> None:
        self.context, self.payload, self.folder, self.limits, self.size = context, payload, folder, limits, size
        self.workers: list[_Worker] = []
        self.waiting: deque[_Case] = deque()
        self.finished: list[ShardResult | ShardFailure] = []
        self.records = 0  # of shards that are done
        self.false_starts = 0

    def run(self, shards: Sequence[Shard], on_records: Callable[[int], None]) -> Iterator[ShardResult | ShardFailure]:
        """Do the shards; however this ends, no worker and no unfinished file of it is left."""
        self.waiting.extend(_Case(shard) for shard in shards)
        try:
            while self.waiting or any(worker.case for worker in self.workers):
                self._employ()
                self._listen()
                self._watch()
                on_records(self.records + sum(Beat(worker.cell).place()[1] for worker in self.workers if worker.case))
                yield from self.finished
                self.finished.clear()
        finally:
            for worker in list(self.workers):
                self._dismiss(worker)

    def _employ(self) -> None:
        """Have as many workers as there is work for, and give those who wait a shard."""
        busy = sum(worker.case is not None for worker in self.workers)
        while len(self.workers) < min(self.size, busy + len(self.waiting)):
            self.workers.append(_Worker(self.context, self.payload))
        for worker in list(self.workers):
            if worker.ready and worker.case is None and self.waiting:
                case = self.waiting.popleft()
                try:
                    worker.give(case)
                except OSError:  # it died while it waited, which is no one's fault
                    worker.case = None
                    self.waiting.appendleft(case)
                    self._dismiss(worker)

    def _listen(self) -> None:
        """Wait for a word or a death, for a moment at most."""
        sources: list[Any] = [source for worker in self.workers for source in (worker.tasks, worker.process.sentinel)]
        stirring = wait(sources, LOOK_EVERY_S)
        for worker in list(self.workers):
            if worker.tasks not in stirring and worker.process.sentinel not in stirring:
                continue
            try:
                # What a worker said before it died is heard first.
                answer = worker.tasks.recv() if worker.tasks.poll() else None
            except (EOFError, OSError):
                answer = None
            if answer is not None:
                self._heard(worker, answer)
            elif not worker.process.is_alive():
                self._lost(worker, Dropped("crash", _words_of(worker.process.exitcode)))

    def _heard(self, worker: _Worker, answer: Any) -> None:
        case, worker.case = worker.case, None
        if isinstance(answer, Ready):
            worker.ready = True
            self.false_starts = 0
        elif isinstance(answer, ShardResult):
            self.records += answer.rows_in
            self.finished.append(answer)
        elif case is None:
            raise RuntimeError(f"a worker cannot load the step; its class must stand in a module: {answer.detail}")
        else:
            self._failed(case, answer)

    def _watch(self) -> None:
        """Kill who is silent for too long or too large."""
        for worker in list(self.workers):
            phase, _ = Beat(worker.cell).place()
            in_record = worker.case is not None and phase is Phase.PROCESSING
            allowed = self.limits.timeout_s if in_record else self.limits.io_timeout_s
            if not worker.ready:
                allowed = max(allowed, START_S)
            limit = self.limits.memory_limit_mb
            if (worker.case is not None or not worker.ready) and worker.silent_s() > allowed:
                self._lost(worker, Dropped("timeout", f"silent for {allowed:g} s"))
            elif limit is not None and worker.case is not None and worker.resident_mb() > limit:
                self._lost(worker, Dropped("memory", f"more than {limit} MiB"))

    def _lost(self, worker: _Worker, why: Dropped) -> None:
        """A worker is dead, or to be killed: find out whose fault it is."""
        case, (phase, number) = worker.case, Beat(worker.cell).place()
        self._dismiss(worker)
        if case is None:
            self.false_starts += not worker.ready
            if self.false_starts >= FALSE_STARTS:
                raise RuntimeError(
                    f"{FALSE_STARTS} workers died before they were ready: {why.detail}. "
                    "A script that starts workers needs `if __name__ == '__main__':`"
                )
        elif phase is not Phase.PROCESSING:
            self._failed(case, Refused(f"{why.detail} while {phase.words} record {number}"))
        else:
            case.strikes[number] = case.strikes.get(number, 0) + 1
            if case.strikes[number] == STRIKES:
                case.skip[number] = why
            if sum(case.strikes.values()) > STRIKES * self.limits.max_quarantined:
                last = f"the last is record {number}, {why.reason}: {why.detail}"
                self._failed(case, Refused(f"workers died of {len(case.strikes)} records; {last}", may_retry=False))
            else:
                self.waiting.appendleft(case)

    def _failed(self, case: _Case, answer: Refused) -> None:
        """Try a shard again after all others, so that a disk has time to come back; or give it up."""
        case.failures += 1
        if answer.may_retry and case.failures <= self.limits.retries:
            self.waiting.append(case)
        else:
            self.finished.append(ShardFailure(case.shard.name, answer.detail))

    def _dismiss(self, worker: _Worker) -> None:
        worker.kill()
        self.workers.remove(worker)
        if worker.case is not None:
            self.folder.unfinished(worker.case.shard.name, worker.attempt).unlink(missing_ok=True)


def _words_of(exit_code: int | None) -> str:
    name = signal_name(exit_code)
    return f"killed by {name}" if name else f"exit code {exit_code}"
