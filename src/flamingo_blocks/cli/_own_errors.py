"""Errors whose messages say all, and those that want their whole trace."""

from pathlib import Path

import flamingo_blocks


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised by this library, whose messages say all; of others the whole trace is shown."""
    trace, last = error.__traceback__, ""
    while trace is not None:
        last, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return Path(last).is_relative_to(Path(flamingo_blocks.__file__).parent)


def in_one_line(error: BaseException) -> str:
    """A message with its notes behind it: where it was met, and where to read more.

    Notes of several lines, such as the trace of another process, are left out.

    Args:
        error: What is printed in place of its trace.

    Example:
        >>> from flamingo_blocks.errors import ShapeError
        >>> error = ShapeError("media has shape (3, 8)")
        >>> error.add_note("this was sample 5")
        >>> in_one_line(error)
        'media has shape (3, 8) (this was sample 5; more: flamingo-blocks explain shapes)'
    """
    notes = [note for note in getattr(error, "__notes__", []) if "\n" not in note]
    own = getattr(error, "page", None)
    if own is not None:
        more = f"ore: flamingo-blocks explain {own}"
        notes = [*(note for note in notes if not note.startswith(f"M{more}")), f"m{more}"]
    return f"{error} ({'; '.join(notes)})" if notes else str(error)
