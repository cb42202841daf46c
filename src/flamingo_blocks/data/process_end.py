"""How a process of ours ended."""

import signal


def signal_name(exit_code: int | None) -> str | None:
    """The signal that ended a process, as `"SIGKILL"`; `None` where it ended by itself.

    Args:
        exit_code: As `multiprocessing.Process` tells it: below zero for signals, `None` where it is not known.
    """
    if exit_code is None or exit_code >= 0:
        return None
    names = {known.value: known.name for known in signal.Signals}
    return names.get(-exit_code, f"signal {-exit_code}")
