"""Ctrl-C and the processes that a command starts."""

import contextlib
import multiprocessing
import multiprocessing.forkserver
import os
import signal

import pytest

from flamingo_blocks.data.interrupts import interrupts_wait, leave_interrupts_to_the_parent


def _interrupted_at_birth():
    os.kill(os.getpid(), signal.SIGINT)
    leave_interrupts_to_the_parent()
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(7)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
@pytest.mark.parametrize(("guard", "end"), [(interrupts_wait, 7), (contextlib.nullcontext, None)])
def test_a_process_that_just_starts_is_not_ended_by_an_interrupt(method, guard, end, capfd):
    """Neither before it ignores them nor behind that; one that was started without the guard is."""
    multiprocessing.forkserver._forkserver._stop()  # one of its own, which has what this process has at its start
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background ignores it
    try:
        process = multiprocessing.get_context(method).Process(target=_interrupted_at_birth)
        with guard():
            process.start()
        process.join()
    finally:
        signal.signal(signal.SIGINT, handler)
        multiprocessing.forkserver._forkserver._stop()
    assert (process.exitcode == 7) == (end == 7)
    assert ("KeyboardInterrupt" in capfd.readouterr().err) == (end is None)


def test_interrupts_arrive_behind_the_start():
    """What came meanwhile is not lost."""
    lived = []

    def interrupted() -> None:
        with interrupts_wait():
            os.kill(os.getpid(), signal.SIGINT)
            lived.append(True)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert lived
