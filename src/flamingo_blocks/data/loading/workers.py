"""Processes that make batches ahead of time, and never leave one waiting for ever."""

import multiprocessing
import os
import pickle
import signal
import sys
import traceback
import weakref
from collections.abc import Callable, Hashable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, NoReturn

import torch

from flamingo_blocks.data.loading.packed import Packed, pack, unpack
from flamingo_blocks.data.process_end import signal_name
from flamingo_blocks.errors import FlamingoBlocksError

_SECONDS_TO_END = 5.0


class WorkerDiedError(FlamingoBlocksError, RuntimeError):
    """A worker process ended by itself or was killed; the message says how and what it was at. Going on is safe.

    Example:
        >>> pool = WorkerPool(os._exit, num_workers=1)
        >>> try:
        ...     pool.submit(7)  # the worker ends itself with this status
        ...     pool.result(7)
        ... except WorkerDiedError as error:
        ...     print(str(error).partition(") ")[2].partition(".")[0])
        ended with code 7 at 7
    """


class WorkerPool:
    """Workers that each do their tasks in turn; a task goes to the one with the fewest.

    Each worker has a pipe of its own, of which nobody else holds an end: when it dies, whatever it was doing, reading
    from it ends at once. Workers end when the pool is closed or forgotten, and when the process that started them dies.

    Args:
        work: Called with each task, in the workers. Travels by pickle.
        num_workers: Number of processes.
        start_method: `"forkserver"` forks workers from a clean process that has loaded torch; `"spawn"` starts each
            anew, seconds later. None takes the first where there is it.

    Raises:
        ValueError: If `work` cannot be pickled.
    """

    def __init__(self, work: Callable[[Any], Any], *, num_workers: int, start_method: str | None = None) -> None:
        # One failed attempt here is clearer than one in every worker.
        try:
            pickled = bytes(ForkingPickler.dumps(work))
        except Exception as error:
            raise ValueError(
                f"the sources cannot be sent to workers: {error}. Define functions and classes at the top of a module, "
                "or take num_workers=0"
            ) from error
        context = _context(start_method)
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        self._given: list[list[Hashable]] = []
        self._done: dict[Hashable, Any] = {}
        self._end = weakref.finalize(self, _end, os.getpid(), self._connections, self._processes)
        for _ in range(num_workers):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, pickled), daemon=True)
            process.start()
            theirs.close()
            self._connections.append(ours)
            self._processes.append(process)
            self._given.append([])

    def submit(self, task: Hashable) -> None:
        """Give a task to the worker with the fewest."""
        for index, connection in enumerate(self._connections):
            while self._given[index] and connection.poll():
                self._receive(index)
        index = min(range(len(self._given)), key=lambda worker: len(self._given[worker]))
        try:
            self._connections[index].send(task)
        except OSError as error:
            self._died(index, error)
        self._given[index].append(task)

    def result(self, task: Hashable) -> Any:
        """Wait for what was made of a task that was submitted.

        Raises:
            WorkerDiedError: If a worker has ended meanwhile. The pool is closed then.
            Exception: What the work raised, with a note of where.
        """
        try:
            while task not in self._done:
                for ready in wait(self._connections):
                    self._receive(self._connections.index(ready))  # type: ignore[arg-type]
        except BaseException:  # an interrupt may have cut a message in two
            self.close()
            raise
        result = self._done.pop(task)
        if isinstance(result, _Failure):
            raise result.error()
        return result

    def close(self) -> None:
        """End all workers, now."""
        self._end()

    def _receive(self, index: int) -> None:
        try:
            packed = self._connections[index].recv()
        except (EOFError, OSError) as error:
            self._died(index, error)
        task = self._given[index].pop(0)
        self._done[task] = unpack(packed) if isinstance(packed, Packed) else packed

    def _died(self, index: int, error: Exception) -> NoReturn:
        process = self._processes[index]
        process.join(_SECONDS_TO_END)
        if process.exitcode is None:  # it lives: something else is wrong, such as too many open files
            raise error
        pid, how = process.pid, _how(process.exitcode)
        at = f" at {self._given[index][0]}" if self._given[index] else ""
        self.close()
        raise WorkerDiedError(
            f"worker {index} (process {pid}) {how}{at}. "
            "No batch is lost: the next call starts new workers and goes on, and so does a new run from the last state"
        ) from error


class _Failure:
    """What the work raised, on its way to whoever asked."""

    def __init__(self, error: Exception) -> None:
        lines = "".join(traceback.format_exception(error))
        self._text = f"raised in a worker:\n{lines}"
        try:
            self._error: bytes | None = pickle.dumps(error)
            pickle.loads(self._error)  # noqa: S301 - some errors can be written and not read
        except Exception:  # noqa: BLE001 - whatever an error of somebody else's raises here
            self._error = None

    def error(self) -> Exception:
        if self._error is None:
            return RuntimeError(self._text)
        error: Exception = pickle.loads(self._error)  # noqa: S301 - from a worker of ours
        error.add_note(self._text)
        return error


def _context(start_method: str | None) -> Any:
    if start_method is None:
        start_method = "forkserver" if sys.platform == "linux" else "spawn"
    context = multiprocessing.get_context(start_method)
    if start_method == "forkserver":
        context.set_forkserver_preload(["__main__", __name__])  # torch is loaded once and not by every worker
    return context


def _serve(connection: Connection, pickled: bytes) -> None:
    """What a worker does all its life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks; it ends us
    torch.set_num_threads(1)
    work: Callable[[Any], Any] | None = None
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        answer: Packed | _Failure
        try:
            work = work or ForkingPickler.loads(pickled)
            answer = pack(work(task))
        except Exception as error:  # noqa: BLE001 - it is raised where the batch is asked for
            answer = _Failure(error)
        try:
            connection.send(answer)
        except OSError:
            return


def _end(owner: int, connections: list[Connection], processes: list[BaseProcess]) -> None:
    if os.getpid() != owner:  # a fork has a copy of the pool, and no say over the workers
        return
    for connection in connections:
        connection.close()
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_SECONDS_TO_END)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    connections.clear()
    processes.clear()


def _how(code: int | None) -> str:
    name = signal_name(code)
    if name is None:
        hint = " (a script that starts workers needs `if __name__ == '__main__':`)" if code == 1 else ""
        return f"ended with code {code}{hint}"
    hint = {
        "SIGKILL": "; the machine may have run out of memory",
        "SIGBUS": "; shared memory may be full: give /dev/shm more, or take fewer workers",
    }.get(name, "")
    return f"was ended by {name}{hint},"
