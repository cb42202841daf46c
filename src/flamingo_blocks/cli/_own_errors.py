"""Errors whose messages say all, and those that want their whole trace."""

from pathlib import Path

import flamingo_blocks


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised by this library, whose messages say all; of others the whole trace is shown."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        last, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return Path(last).is_relative_to(Path(flamingo_blocks.__file__).parent)
